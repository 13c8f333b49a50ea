"""Figures of one kind side by side: the same axes and colours, so that they can be compared by eye."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures.grid import log_ticks


def share(*drawn: go.Figure) -> None:
    """Give all figures the union of their value axes and colour ranges; token axes stay their own."""
    for name in set.intersection(*map(_axes, drawn)):
        if any(figure.layout[name].ticktext is not None for figure in drawn):
            continue  # tokens: the prompts may differ
        _union(drawn, name, [_span(figure, name) for figure in drawn])
    # Only those with a colour bar: beside them lie layers that one of the prompts may not need.
    for grids in zip(*map(_scaled, drawn), strict=False):
        _share_colours(grids)


def _scaled(figure: go.Figure) -> list[go.Heatmap]:
    return [
        trace for trace in figure.data if trace.type == "heatmap" and trace.showscale is not False
    ]


def _axes(figure: go.Figure) -> set[str]:
    return {name for name in figure.layout if name.startswith(("xaxis", "yaxis"))}


def _span(figure: go.Figure, name: str) -> tuple[float, float] | None:
    """The axis' own range, else the extent of its data, in the axis' units (log10 on log axes)."""
    axis = figure.layout[name]
    if axis.range is not None:
        return float(axis.range[0]), float(axis.range[1])
    letter, short = name[0], name.replace("axis", "")
    parts = []
    for trace in figure.data:
        if (getattr(trace, f"{letter}axis", None) or letter) == short:
            parts.append(_numbers(getattr(trace, letter, None)))
    values = np.concatenate(parts) if parts else np.empty(0)
    if axis.type == "log":
        values = np.log10(values[values > 0])
    if not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin


def _union(drawn: Sequence[go.Figure], name: str, spans: list[Any]) -> None:
    known = [span for span in spans if span is not None]
    if known:
        union = [min(low for low, _ in known), max(high for _, high in known)]
        for figure in drawn:
            figure.layout[name].range = union


def _share_colours(grids: Sequence[go.Heatmap]) -> None:
    values = np.concatenate([_numbers(grid.z) for grid in grids])
    lows = [grid.zmin for grid in grids if grid.zmin is not None]
    highs = [grid.zmax for grid in grids if grid.zmax is not None]
    if not values.size:
        return
    if len({(grid.zmin, grid.zmax) for grid in grids}) == 1 and lows:
        return  # one scale already, with ticks of its own
    low = min(lows) if lows else float(values.min())
    high = max(highs) if highs else float(values.max())
    for grid in grids:
        grid.update(zmin=low, zmax=high)
        if grid.colorbar.tickvals is not None:
            grid.colorbar.update(log_ticks(low, high))


def _numbers(values: Any) -> np.ndarray:
    """The finite numbers among `values`."""
    if values is None:
        return np.empty(0)
    flat = np.asarray(values, dtype=object).ravel()
    kept = [float(v) for v in flat if isinstance(v, int | float | np.number)]
    return np.asarray([v for v in kept if np.isfinite(v)])
