"""The bundled models, one folder each, and a sample of text they haven't seen.

A model's folder is what `save_pretrained` writes, or the `final/` of a training run.
sample.txt has four passages of each of six held-out novels, in the public domain: Burnett, The Secret
Garden; Conrad, Almayer's Folly; Doyle, The Hound of the Baskervilles; Schreiner, The Story of an African
Farm and Undine; Stevenson, Treasure Island.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError, nearest
from abbie_lens.files.layout import (
    ACCURACY,
    CARD,
    EVALUATION,
    METRICS,
    WEIGHTS,
    is_model_folder,
    read_config,
)
from abbie_lens.files.weights import stored_shapes

DEFAULT = "abbie-d-novels"
"""The main model, which the dashboard and the command line open first."""

FOLDER = Path(__file__).parent


@dataclass(frozen=True)
class ZooModel:
    """What the files of a bundled model, or of any saved one, say about it."""

    name: str
    path: Path
    config: LoopedConfig
    n_params: int
    """Counted from the weight file's header."""
    n_bytes: int
    """Size of the weight file."""
    metrics: dict[str, Any]
    """metrics.json, with what a training run measured at its end: evaluation.json (text) under `evaluation`,
    accuracy.json (a task) under `accuracy`; empty if none is there."""
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
    return describe_folder(path(name))


def describe_folder(folder: Path, name: str | None = None) -> ZooModel:
    """The same of any saved model; `name` is the folder's if None. Errors: CheckpointError."""
    shapes = stored_shapes(folder / WEIGHTS)
    measured = {"evaluation": _read_json(folder / EVALUATION)}
    measured["accuracy"] = _read_json(folder / ACCURACY)
    card = folder / CARD
    return ZooModel(
        name=folder.name if name is None else name,
        path=folder,
        config=read_config(folder)[0],
        n_params=sum(map(prod, shapes.values())),
        n_bytes=(folder / WEIGHTS).stat().st_size,
        metrics=_read_json(folder / METRICS) | {k: v for k, v in measured.items() if v},
        card=card.read_text("utf-8") if card.is_file() else "",
    )


def models() -> list[ZooModel]:
    """All bundled models, the main one first."""
    return [describe(name) for name in names()]


def sample_text() -> str:
    """Passages the bundled models were not trained on, with a form feed between documents."""
    return (Path(__file__).parent / "sample.txt").read_text("utf-8")


def _read_json(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text("utf-8")) if file.is_file() else {}
