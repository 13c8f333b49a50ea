"""Arrays [iteration, batch, pos] as one tidy table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from probes.result import Result


def tidy(
    tokens: Sequence[Sequence[str]],
    columns: Mapping[str, np.ndarray],
    *,
    valid: np.ndarray | None = None,
    first: int = 0,
) -> pd.DataFrame:
    """One row per (batch, position, iteration), padding left out: batch, position, token, iteration, columns.

    columns: name -> [iteration, batch, pos], or [batch, pos] for what does not change with the
    iteration; fewer rows than the longest are filled with missing values. valid: [batch, pos].
    first: label of the first row.
    """
    rows = max(c.shape[0] for c in columns.values() if c.ndim == 3)
    shape = (rows, *next(iter(columns.values())).shape[-2:])
    keep = np.ones(shape[1:], bool) if valid is None else valid
    batch, position = np.nonzero(keep)
    k = np.arange(rows)
    frame: dict[str, object] = {
        "batch": np.repeat(batch, rows),
        "position": np.repeat(position, rows),
        "token": np.repeat([tokens[b][p] for b, p in np.argwhere(keep).tolist()], rows),
        "iteration": np.tile(k + first, len(batch)),
    }
    for name, values in columns.items():
        if values.ndim == 2:
            frame[name] = np.repeat(values[keep], rows)
        else:
            full = _lengthened(values, rows)
            frame[name] = full[:, keep].T.reshape(-1)
    return pd.DataFrame(frame)


def with_control(frame: pd.DataFrame, control: Result | None) -> pd.DataFrame:
    """The table of trained weights above that of its control, told apart by the column `weights`."""
    if "weights" not in frame:
        frame.insert(0, "weights", "trained")
    if control is None:
        return frame
    return pd.concat([frame, control.to_frame().assign(weights="random")], ignore_index=True)


def _lengthened(values: np.ndarray, rows: int) -> np.ndarray:
    if len(values) == rows:
        return values
    wide = values if values.dtype.kind == "f" else values.astype(float)
    missing = np.full((rows - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([wide, missing])
