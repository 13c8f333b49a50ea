"""The leaderboard: every model on offer as one row, from its own files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from abbie_lens.tasks.evaluate import TaskEvaluation
from abbie_lens.zoo import ZooModel
from app.view import plain
from probes import leaderboard

MEASURES = {"text": ("Text: NLL", "evaluation"), "task": ("Tasks: accuracy", "accuracy")}
"""What a leaderboard is of: its title, and where `ZooModel.metrics` has it."""
_SPARK = "by r"


def measured(models: Sequence[ZooModel], measure: str) -> list[ZooModel]:
    """The models that have this measure."""
    return [model for model in models if model.metrics.get(MEASURES[measure][1])]


def rows(models: Sequence[ZooModel], measure: str) -> pd.DataFrame:
    """One row a model, depths in rising order; one that it refuses, or was not measured at, is missing."""
    columns = _losses if measure == "text" else _accuracies
    table = pd.DataFrame([{**_identity(model), **columns(model)} for model in models])
    # Models have different depths: the table has them in the order in which it met them.
    parts = [name.partition("r=") for name in table.columns]
    kinds = [kind for kind, _, _ in parts]
    order = sorted(parts, key=lambda part: (kinds.index(part[0]), int(part[2] or 0)))
    return table[["".join(part) for part in order]]


def _identity(model: ZooModel) -> dict[str, Any]:
    return {
        "model": plain.token(model.name, 60),
        "loop": model.config.loop.label,
        "parameters": model.n_params / 1e6,
        "trained r": model.config.n_iters,
    }


def _losses(model: ZooModel) -> dict[str, Any]:
    evaluation = model.metrics["evaluation"]
    nll = leaderboard.numbers(evaluation["nll"], len(evaluation["n_iters"]))
    by_r = {f"NLL r={r}": value for r, value in zip(evaluation["n_iters"], nll, strict=True)}
    return {f"NLL {_SPARK}": _spark(nll), **by_r}


def _accuracies(model: ZooModel) -> dict[str, Any]:
    accuracy = TaskEvaluation.from_dict(model.metrics["accuracy"])
    trained, beyond = leaderboard.by_range(accuracy)
    by_r = {f"r={r}": v for r, v in zip(accuracy.n_iters, trained.value, strict=True)}
    harder = {f"harder r={r}": v for r, v in zip(accuracy.n_iters, beyond.value, strict=True)}
    return {
        "task": plain.token(accuracy.task["task"], 60),
        "chance": accuracy.chance,
        f"accuracy {_SPARK}": _spark(trained.value),
        **by_r,
        f"harder {_SPARK}": _spark(beyond.value),
        **harder,
    }


def _spark(values: np.ndarray) -> list[float]:
    """What a sparkline can draw: up to the first refused depth."""
    missing = np.flatnonzero(~np.isfinite(values))
    return values[: missing[0] if missing.size else len(values)].tolist()


def show(models: Sequence[ZooModel], measure: str) -> None:
    """The table, sortable by each column; all sparklines of a column on one scale."""
    table = rows(models, measure)
    column = st.column_config
    config: dict[str, Any] = {
        "model": column.TextColumn("model", pinned=True),
        "parameters": column.NumberColumn("parameters", format="%.2fM"),
    }
    for name in table.columns:
        if name.endswith(_SPARK):
            values = [v for line in table[name] for v in line] if measure == "text" else [0.0, 1.0]
            config[name] = column.LineChartColumn(
                name, width="small", y_min=min(values, default=0.0), y_max=max(values, default=1.0)
            )
        elif "r=" in name or name == "chance":
            config[name] = column.NumberColumn(name, format="%.3f")
    st.dataframe(
        table, hide_index=True, column_config=config, row_height=30, key=f"board-{measure}"
    )
