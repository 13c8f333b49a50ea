"""`python -m benchmarks [--quick] [--only NAME …]`: measure, and write results.json and RESULTS.md."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

# Before huggingface_hub and nnsight are imported: nothing is measured over the network.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

from benchmarks.catalogue import BENCHMARKS, run_apart
from benchmarks.report import markdown, merged, read, write

HERE = Path(__file__).resolve().parent
PAIRS, QUICK_PAIRS = 25, 5


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for; 0 when it ran, whatever the figures are."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help=f"{QUICK_PAIRS} pairs instead of {PAIRS}; print only"
    )
    parser.add_argument(
        "--only",
        metavar="NAME",
        nargs="+",
        choices=BENCHMARKS,
        help="measure these and keep the other rows as they are: " + ", ".join(BENCHMARKS),
    )
    chosen = parser.parse_args(arguments)

    results, rows = HERE / "results.json", []
    for name in chosen.only or BENCHMARKS:
        print(f"{name} …", file=sys.stderr, flush=True)
        rows.append(run_apart(name, QUICK_PAIRS if chosen.quick else PAIRS))
        if not chosen.quick:
            # After every row: a measurement that is stopped keeps what it has.
            kept = merged(read(results), rows, list(BENCHMARKS))
            write(kept, results, HERE.parent / "RESULTS.md")
    print(markdown(rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
