"""Interval bands: one polygon for each unbroken stretch, so that no band crosses what is undefined."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures.colors import rgba


def add_band(
    fig: go.Figure,
    x: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    color: str,
    *,
    alpha: float = 0.15,
    **trace: Any,
) -> None:
    """Fill between low and high [point]; `trace` goes to the traces (legendgroup, row, col)."""
    for run in stretches(np.isfinite(low) & np.isfinite(high)):
        if len(run) > 1:
            fig.add_scatter(
                x=np.concatenate([x[run], x[run][::-1]]),
                y=np.concatenate([high[run], low[run][::-1]]),
                fill="toself",
                fillcolor=rgba(color, alpha),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                **trace,
            )


def add_median(
    fig: go.Figure,
    x: np.ndarray,
    levels: tuple[np.ndarray, np.ndarray, np.ndarray],
    look: dict[str, Any],
    name: str,
    *,
    size: float,
    group: str,
    legend: bool,
    band: bool = True,
    **cell: int,
) -> None:
    """The median [point] of `levels` (10 %, median, 90 %) in the look of a role, with the band between the others."""
    low, median, high = levels
    if band:
        add_band(fig, x, low, high, look["color"], alpha=0.18, **cell)
    fig.add_scatter(
        x=x,
        y=median,
        name=name,
        legendgroup=group,
        showlegend=legend,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": size},
        customdata=np.stack([low, high], -1),
        hovertemplate=f"<b>{name}</b><br>k = %{{x}}<br>median %{{y:.3g}}"
        "<br>10–90%: %{customdata[0]:.3g} … %{customdata[1]:.3g}<extra></extra>",
        **cell,
    )


def stretches(there: np.ndarray) -> list[np.ndarray]:
    """Indices of consecutive True values, an array each."""
    index = np.flatnonzero(there)
    return [run for run in np.split(index, np.flatnonzero(np.diff(index) > 1) + 1) if len(run)]
