"""The distinct fixed points of one iteration as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import style

if TYPE_CHECKING:
    from probes.dynamics.solver import FixedPointSearch

_ROW_PX, _MOST = 28, 30
_HEADS = {
    "weights": "weights",
    "batch": "sequence",
    "stability": "stability",
    "radius": "ρ, largest",
    "residual": "residual",
    "from_plain": "to plain's end",
}


def draw(result: FixedPointSearch, *, theme: style.Theme) -> go.Figure:
    """A row for every solution, at most 30; `to_frame` has them all."""
    frame, colors = result.to_frame(), style.palette(theme)
    found = [name for name in frame.columns if name.startswith("found_by_")]
    heads = _HEADS | {name: f"starts, {name.removeprefix('found_by_')}" for name in found}
    shown = frame.head(_MOST)
    cells = [[_text(value) for value in shown[name]] for name in heads]
    fig = style.new_figure(
        result.title, f"{style.subtitle(result, None)}<br>{_saving(result)}", theme=theme
    )
    fig.add_table(
        header={
            "values": list(heads.values()),
            "fill": {"color": colors.grid},
            "font": {"color": colors.ink},
            "align": "left",
            "line": {"color": colors.line},
        },
        cells={
            "values": cells,
            "fill": {"color": colors.paper},
            "font": {"color": colors.ink},
            "align": "left",
            "height": _ROW_PX,
            "line": {"color": colors.grid},
        },
    )
    fig.update_layout(xaxis_visible=False, yaxis_visible=False)
    more = f" {len(frame) - _MOST} more are in the table's file." if len(frame) > _MOST else ""
    none = "" if len(frame) else " No start led to a solution."
    style.caption(fig, f"{result.formula}. Tolerance {result.tolerance:.0e}.{more}{none}", below=8)
    layout: Any = fig.layout
    height = 84 + _ROW_PX * (len(shown) + 2) + int(layout.margin.b or 80)
    return fig.update_layout(height=height, margin_t=84, margin_l=24)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    number = float(value)  # type: ignore[arg-type]
    if np.isnan(number):
        return "undefined"
    return str(int(number)) if number == int(number) and abs(number) < 1e6 else f"{number:.3g}"


def _saving(result: FixedPointSearch) -> str:
    defined = result.saving[np.isfinite(result.saving)]
    if not len(defined):
        return "plain iteration or Anderson's did not come to a solution"
    return f"Body applications, plain over Anderson: {np.median(defined):.2f}"
