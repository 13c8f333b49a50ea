"""`python -m abbie_lens.training --config FILE.json [--resume]`: a run from a TrainConfig file."""

import argparse
import dataclasses
import sys

from abbie_lens.errors import AbbieLensError

from .config import TrainConfig
from .run import train


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m abbie_lens.training", description=__doc__)
    parser.add_argument("--config", required=True, help="TrainConfig as JSON")
    parser.add_argument("--resume", action="store_true", help="continue the run in its folder")
    arguments = parser.parse_args()
    try:
        config = TrainConfig.from_file(arguments.config)
        if arguments.resume:
            config = dataclasses.replace(config, resume=True)
        print(train(config))
    except AbbieLensError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
