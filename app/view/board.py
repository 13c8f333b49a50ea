"""The leaderboard: every model on offer as one row, from its own files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from abbie_lens import zoo
from abbie_lens.errors import AbbieLensError
from abbie_lens.files.layout import is_model_folder
from abbie_lens.tasks.evaluate import TaskEvaluation
from abbie_lens.zoo import ZooModel
from app.view import plain
from probes import leaderboard

LOSS, SOLVED = "NLL by r", "accuracy by r"
"""Columns of sparklines."""


def described(names: Sequence[str]) -> list[ZooModel]:
    """The files of those among `names` that are bundled models or folders of saved ones."""
    found = []
    for name in names:
        try:
            if name in zoo.names():
                found.append(zoo.describe(name))
            elif is_model_folder(Path(name)):
                found.append(zoo.describe_folder(Path(name)))
        except AbbieLensError:
            continue  # its own page says what is wrong with it
    return found


def rows(models: Sequence[ZooModel]) -> pd.DataFrame:
    """One row a model; a number that its files don't have, or a refused depth, is missing."""
    return pd.DataFrame([_row(model) for model in models])


def _row(model: ZooModel) -> dict[str, Any]:
    row: dict[str, Any] = {
        "model": plain.token(model.name, 60),
        "loop": model.config.loop.label,
        "parameters": model.n_params / 1e6,
        "trained r": model.config.n_iters,
        "trained on": "text",
    }
    if evaluation := model.metrics.get("evaluation"):
        nll = leaderboard.numbers(evaluation["nll"], len(evaluation["n_iters"]))
        row[LOSS] = _spark(nll)
        row |= {f"NLL r={r}": v for r, v in zip(evaluation["n_iters"], nll, strict=True)}
    if plain_accuracy := model.metrics.get("accuracy"):
        accuracy = TaskEvaluation.from_dict(plain_accuracy)
        row["trained on"] = plain.token(accuracy.task["task"], 60)
        trained, beyond = leaderboard.by_range(accuracy)
        row[SOLVED] = _spark(trained.value)
        at = [i for i, r in enumerate(accuracy.n_iters) if r == model.config.n_iters]
        best = at[0] if at else int(np.nanargmax(trained.value))
        row[f"accuracy{'' if at else ' (best r)'}"] = trained.value[best]
        row["harder than trained"] = beyond.value[best]
    return row


def _spark(values: np.ndarray) -> list[float]:
    """What a sparkline can draw: up to the first refused depth."""
    kept = np.isfinite(values)
    return values[: int(kept.argmin()) if not kept.all() else len(values)].tolist()


def show(models: Sequence[ZooModel]) -> None:
    """The table, sortable by each column."""
    table = rows(models)
    losses = [c for c in table.columns if c.startswith("NLL r=")]
    losses.sort(key=lambda name: int(name.split("=")[1]))
    shares = [c for c in table.columns if c.startswith(("accuracy", "harder")) and c != SOLVED]
    first = ["model", "loop", "parameters", "trained r", "trained on"]
    order = [*first, *(c for c in (LOSS, *losses, SOLVED, *shares) if c in table.columns)]
    drawn = [v for line in table.get(LOSS, []) if isinstance(line, list) for v in line]
    column = st.column_config
    config: dict[str, Any] = {
        "model": column.TextColumn("model", pinned=True),
        "parameters": column.NumberColumn("parameters", format="%.2fM"),
        LOSS: column.LineChartColumn(
            LOSS, width="small", help="Held-out NLL, one point a depth, all rows on one scale.",
            y_min=min(drawn, default=0.0), y_max=max(drawn, default=1.0),
        ),
        SOLVED: column.LineChartColumn(SOLVED, width="small", y_min=0.0, y_max=1.0),
        **{name: column.NumberColumn(name, format="%.3f") for name in (*losses, *shares)},
    }  # fmt: skip
    st.dataframe(table[order], hide_index=True, column_config=config, row_height=30,
                 key="leaderboard")  # fmt: skip
