"""The token × iteration grid: tokens across, iterations upward, undefined cells blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style

_MOST_NAMED = 36


def token_grid(
    fig: go.Figure,
    values: np.ndarray,
    tokens: Sequence[str],
    *,
    name: str,
    first: int = 0,
    log: bool = False,
    middle: float | None = None,
    limits: tuple[float, float] | None = None,
    text: Sequence[Sequence[str]] | None = None,
    hover: Sequence[Sequence[str]] | None = None,
    rows: Sequence[str] | None = None,
    apart: bool = False,
    row: int | None = None,
    col: int | None = None,
    theme: style.Theme = "light",
    **heatmap: Any,
) -> int:
    """Draw values [iteration, pos] as a heatmap with both axes labelled; return the pixels its x axis takes.

    name: of the quantity, for colour bar and hover. log: colours by log10; 0 is grey. middle: value that means "no difference", for the diverging map. limits: in the
    values' own unit; symmetric around the middle if None. text: escaped cell texts. hover: further
    escaped lines for each cell. rows: what the rows are called, where they are not iterations. apart: set the first row, h_0, off from the iterations.
    """
    shown = _log10(values) if log else np.where(np.isfinite(values), values, np.nan)
    scaled = lambda x: float(np.log10(x)) if log else x  # noqa: E731
    centre = None if middle is None else scaled(middle)
    if limits is not None:
        low, high = scaled(limits[0]), scaled(limits[1])
    else:
        low, high = span([shown], centre)
    if centre is not None:
        heatmap.setdefault("colorscale", style.diverging(theme))
        heatmap["zmid"] = centre
    bar: dict[str, Any] = {"title": {"text": name, "side": "right"}}
    if log:
        bar |= log_ticks(low, high)
    heatmap["colorbar"] = bar | heatmap.get("colorbar", {})
    # Between small cells a gap would be all there is to see.
    gap = 1 if values.shape[0] <= 40 and values.shape[1] <= 80 else 0
    cells = {
        "x": np.arange(values.shape[1]),
        "y": np.arange(first, first + len(values)),
        "xgap": gap,
        "ygap": gap,
        "customdata": _hover(values, tokens, name, first, hover, rows),
        "hovertemplate": "%{customdata}<extra></extra>",
    }
    if log and (values == 0).any():
        grey = style.palette(theme).zero
        fig.add_trace(_zeros(values, cells, grey), row=row, col=col)
    trace = go.Heatmap(
        z=shown,
        zmin=low,
        zmax=high,
        text=text,
        texttemplate="%{text}" if text is not None else None,
        textfont={"family": style.MONO},
        **cells,
        **heatmap,
    )
    fig.add_trace(trace, row=row, col=col)
    style.iteration_axis(fig, len(values), "y", first=first, row=row, col=col, max_ticks=9)
    if rows is not None:
        _name_rows(fig, rows, first, row, col)
    fig.update_yaxes(showgrid=False, row=row, col=col)
    if apart:
        cell: dict[str, Any] = {} if row is None else {"row": row, "col": col}
        fig.add_hline(y=first + 0.5, line={"color": style.palette(theme).paper, "width": 5}, **cell)
    return style.token_axis(fig, tokens, "x", row=row, col=col)


def _name_rows(
    fig: go.Figure, rows: Sequence[str], first: int, row: int | None, col: int | None
) -> None:
    """Tick rows by name; where they are many, those that are iterations alone."""
    at = [i for i, name in enumerate(rows) if len(rows) <= _MOST_NAMED or name.isdigit()]
    fig.update_yaxes(
        tickmode="array",
        tickvals=[first + i for i in at],
        # The block's iteration is the number below it.
        ticktext=[labels.escape(rows[i].split()[-1]) for i in at],
        title={"text": "iteration k, block", "standoff": 8},
        automargin=True,
        row=row,
        col=col,
    )


def _zeros(values: np.ndarray, cells: dict[str, Any], grey: str) -> go.Heatmap:
    """Zero has no logarithm, but it is a value: it must not look undefined."""
    return go.Heatmap(
        z=np.where(values == 0, 0.0, np.nan),
        colorscale=[[0, grey], [1, grey]],
        showscale=False,
        name="exactly 0",
        **cells,
    )


def _log10(values: np.ndarray) -> np.ndarray:
    positive = np.isfinite(values) & (values > 0)
    return np.log10(values, where=positive, out=np.full(values.shape, np.nan))


def span(
    grids: Sequence[np.ndarray], middle: float | None = None
) -> tuple[float | None, float | None]:
    """Lowest and highest finite value of all grids, symmetric around `middle`: one scale for several."""
    values = np.concatenate([g[np.isfinite(g)] for g in grids])
    if not values.size:
        return None, None
    if middle is not None:
        reach = float(np.abs(values - middle).max()) or 1.0
        return middle - reach, middle + reach
    return float(values.min()), float(values.max())


def log_ticks(low: float | None, high: float | None) -> dict[str, Any]:
    """Ticks of a colour bar between 10^low and 10^high: powers of ten, or 1, 2, 5 where there are too few."""
    if low is None or high is None:
        return {}
    powers = np.arange(np.ceil(low), np.floor(high) + 1)
    if len(powers) >= 3:
        powers = powers[:: -(-len(powers) // 7)]
        return {"tickvals": powers, "ticktext": [f"10<sup>{int(p)}</sup>" for p in powers]}
    decades = 10.0 ** np.arange(np.floor(low), np.ceil(high) + 1)
    ticks = (decades[:, None] * [1, 2, 5]).reshape(-1)
    ticks = ticks[(np.log10(ticks) >= low) & (np.log10(ticks) <= high)]
    if len(ticks) < 2:
        ticks = np.unique([10**low, 10**high])
    return {"tickvals": np.log10(ticks), "ticktext": [f"{t:.3g}" for t in ticks]}


def _hover(
    values: np.ndarray,
    tokens: Sequence[str],
    name: str,
    first: int,
    hover: Sequence[Sequence[str]] | None,
    rows: Sequence[str] | None,
) -> list[list[str]]:
    called = [f"iteration {first + k}" for k in range(len(values))]
    if rows is not None:
        called = [f"iteration {n}" if n[0].isdigit() else labels.escape(n) for n in rows]
    heads = [f"{labels.token_label(t)}  (position {p})" for p, t in enumerate(tokens)]
    return [
        [
            f"<b>{head}</b><br>{called[k]}<br>{name} = {_number(values[k, p])}"
            + (f"<br>{hover[k][p]}" if hover is not None else "")
            for p, head in enumerate(heads)
        ]
        for k in range(len(values))
    ]


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "undefined"
