"""The folder of a saved model: which files it has, and its config.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import CheckpointError, ConfigError
from abbie_lens.files.plain_json import read_object
from abbie_lens.files.weights import CONVERT, PICKLED, WEIGHTS

ADAPTER = "adapter.json"
CONFIG = "config.json"
TOKENIZER = "tokenizer.json"
CARD = "README.md"
METRICS = "metrics.json"
EVALUATION = "evaluation.json"
"""What a training run on text measured at its end."""
ACCURACY = "accuracy.json"
"""What one on a task did."""
MODEL_FILES = (
    CONFIG, WEIGHTS, TOKENIZER, "tokenizer_config.json", "special_tokens_map.json",
    "chat_template.jinja", CARD, METRICS, EVALUATION, ACCURACY,
)  # fmt: skip

MODEL_TYPE = "abbie-lens"
FORMAT_VERSION = 1


def is_model_folder(folder: Path) -> bool:
    """Whether `folder` has a config.json of this package."""
    try:
        return json.loads((folder / CONFIG).read_text("utf-8")).get("model_type") == MODEL_TYPE
    except (OSError, ValueError, AttributeError):
        return False


def config_json(cfg: LoopedConfig, weights_sha256: str) -> str:
    """Text of config.json: plain JSON, the loop tagged by family."""
    ours = {"model_type": MODEL_TYPE, "format_version": FORMAT_VERSION}
    return json.dumps({**ours, **cfg.to_dict(), "weights_sha256": weights_sha256}, indent=2) + "\n"


def read_config(folder: Path) -> tuple[LoopedConfig, str | None]:
    """The config of a saved model, and the checksum that its weight file must have, if written.

    Errors: CheckpointError for a missing or damaged config.json, one of another format or version,
    or one that contradicts itself.
    """
    file = folder / CONFIG
    plain = read_json(file)
    model_type, version = plain.pop("model_type", None), plain.pop("format_version", None)
    if model_type != MODEL_TYPE:
        raise CheckpointError(
            f"{file}: model_type is {model_type!r}, not {MODEL_TYPE!r}. Weights of another program "
            "load with key_map= and config=; see docs/bring-your-own.md."
        )
    if version != FORMAT_VERSION:
        raise CheckpointError(
            f"{file}: format_version is {version!r}; this version of abbie-lens reads "
            f"{FORMAT_VERSION}. Update abbie-lens, or save the model again with this one."
        )
    checksum = plain.pop("weights_sha256", None)
    try:
        return LoopedConfig.from_dict(plain), checksum
    except (ConfigError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def read_json(file: Path) -> dict[str, Any]:
    """The object in a file of a model. Errors: CheckpointError, with what a folder without one is."""
    if not file.is_file():
        pickled = sorted(f.name for f in file.parent.glob("*") if f.suffix in PICKLED)
        hint = (
            f" It has {', '.join(pickled)}: pickled files are never read. {CONVERT}"
            if pickled
            else ""
        )
        raise CheckpointError(
            f"{file.parent}: no {file.name}, so this is not a saved model.{hint} Your own weights "
            "load with key_map= and config=; see docs/bring-your-own.md."
        )
    return read_object(file)
