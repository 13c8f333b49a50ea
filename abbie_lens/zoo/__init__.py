"""The bundled models: one folder each, as `save_pretrained` writes them, with metrics.json beside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError, nearest
from abbie_lens.files.layout import CARD, METRICS, WEIGHTS, is_model_folder, read_config
from abbie_lens.files.weights import stored_shapes

DEFAULT = "abbie-d-novels"
"""The main model, which the dashboard and the command line open first."""

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ZooModel:
    """What a bundled model's own files say about it."""

    name: str
    path: Path
    config: LoopedConfig
    n_params: int
    """Counted from the weight file's header."""
    n_bytes: int
    """Size of the weight file."""
    metrics: dict[str, Any]
    """metrics.json: training data, steps and held-out losses; empty if there is none."""
    card: str
    """Text of README.md; empty if there is none."""


def names() -> list[str]:
    """Names of the bundled models, the main one first."""
    found = sorted(entry.name for entry in FOLDER.iterdir() if is_model_folder(entry))
    return sorted(found, key=lambda name: name != DEFAULT)


def path(name: str) -> Path:
    """Folder of a bundled model. Errors: InputError with the nearest names."""
    if name not in names():
        raise InputError(f"name={name!r}: no bundled model.{nearest(name, names())}")
    return FOLDER / name


def describe(name: str) -> ZooModel:
    """What the files of a bundled model say, without loading its weights. Errors: InputError."""
    folder = path(name)
    shapes = stored_shapes(folder / WEIGHTS)
    metrics, card = folder / METRICS, folder / CARD
    return ZooModel(
        name=name,
        path=folder,
        config=read_config(folder)[0],
        n_params=sum(map(prod, shapes.values())),
        n_bytes=(folder / WEIGHTS).stat().st_size,
        metrics=json.loads(metrics.read_text("utf-8")) if metrics.is_file() else {},
        card=card.read_text("utf-8") if card.is_file() else "",
    )


def models() -> list[ZooModel]:
    """All bundled models, the main one first."""
    return [describe(name) for name in names()]
