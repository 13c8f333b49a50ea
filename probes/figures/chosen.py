"""One sequence, or one token of it, picked out in a figure: its line, its column or its row, in one colour everywhere."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style


def sequence(result: Any, batch: int) -> None:
    """Errors: InputError for a sequence that the result has not."""
    if not 0 <= batch < len(result.tokens):
        raise InputError(f"batch={batch}: the result has sequences 0 to {len(result.tokens) - 1}.")


def check(result: Any, position: int, batch: int = 0) -> int:
    """Where the token stands among those that are shown. Errors: InputError for padding or beyond."""
    sequence(result, batch)
    there = np.flatnonzero(result.valid[batch]).tolist()
    if position not in there:
        raise InputError(f"position={position}: tokens stand at {there[0]} to {there[-1]}.")
    return there.index(position)


def line(
    fig: go.Figure,
    result: Any,
    position: int,
    values: np.ndarray,
    theme: style.Theme,
    *,
    row: int,
    col: int,
    legend: bool,
) -> None:
    """The token's own course over the iterations, over the curves of all."""
    name = f"{labels.token_label(result.tokens[0][position], 14)} ({position})"
    fig.add_scatter(
        x=np.arange(len(values)),
        y=values,
        name=name,
        legendgroup="token",
        showlegend=legend,
        mode="lines",
        line={"color": style.palette(theme).chosen, "width": 2.5},
        hovertemplate=f"<b>{name}</b><br>k = %{{x}}<br>%{{y:.3g}}<extra></extra>",
        row=row,
        col=col,
    )


def column(
    fig: go.Figure,
    result: Any,
    position: int,
    theme: style.Theme,
    *,
    batch: int = 0,
    row: int | None = None,
) -> None:
    """A frame around the token's column of a grid."""
    at = check(result, position, batch)
    cell: dict[str, Any] = {} if row is None else {"row": row, "col": 1}
    fig.add_vrect(x0=at - 0.5, x1=at + 0.5, line=_frame(theme), **cell)


def row_of(fig: go.Figure, result: Any, position: int, theme: style.Theme) -> None:
    """A frame around the token's row of a grid that has tokens downward."""
    at = check(result, position)
    fig.add_hrect(y0=at - 0.5, y1=at + 0.5, line=_frame(theme))


def _frame(theme: style.Theme) -> dict[str, Any]:
    return {"color": style.palette(theme).chosen, "width": 2}
