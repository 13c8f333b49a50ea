"""Two figures of one kind side by side: the same axes and colours, so that they can be compared by eye."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures.grid import log_ticks


def share(first: go.Figure, second: go.Figure) -> None:
    """Give both figures the union of their value axes and colour ranges; token axes stay their own."""
    for name in _axes(first) & _axes(second):
        if any(figure.layout[name].ticktext is not None for figure in (first, second)):
            continue  # tokens: the prompts may differ
        spans = [_span(figure, name) for figure in (first, second)]
        _both(first, second, name, spans)
    # Only those with a colour bar: beside them lie layers that one of two prompts may not need.
    for one, other in zip(_scaled(first), _scaled(second), strict=False):
        _share_colours(one, other)


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


def _both(first: go.Figure, second: go.Figure, name: str, spans: list[Any]) -> None:
    known = [span for span in spans if span is not None]
    if known:
        union = [min(low for low, _ in known), max(high for _, high in known)]
        for figure in (first, second):
            figure.layout[name].range = union


def _share_colours(one: go.Heatmap, other: go.Heatmap) -> None:
    values = np.concatenate([_numbers(one.z), _numbers(other.z)])
    lows = [x.zmin for x in (one, other) if x.zmin is not None]
    highs = [x.zmax for x in (one, other) if x.zmax is not None]
    if not values.size:
        return
    low = min(lows) if lows else float(values.min())
    high = max(highs) if highs else float(values.max())
    for trace in (one, other):
        trace.update(zmin=low, zmax=high)
        if trace.colorbar.tickvals is not None:
            trace.colorbar.update(log_ticks(low, high))


def _numbers(values: Any) -> np.ndarray:
    """The finite numbers among `values`."""
    if values is None:
        return np.empty(0)
    flat = np.asarray(values, dtype=object).ravel()
    kept = [float(v) for v in flat if isinstance(v, int | float | np.number)]
    return np.asarray([v for v in kept if np.isfinite(v)])
