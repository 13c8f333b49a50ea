"""Scores of probes against the iteration: a curve with its interval, and a baseline that has no iteration."""

from __future__ import annotations

from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import style


def look(condition: str, theme: style.Theme) -> dict[str, Any]:
    """Colour, dash and symbol of a condition, the same in every figure of probes."""
    if condition == "shuffled":
        return style.series(4, theme) | {"dash": "dot"}
    if condition == "control":
        return style.series(5, theme) | {"dash": "dashdot"}
    return style.role("control" if condition == "untrained" else "trained", theme)


def curve(
    fig: go.Figure,
    condition: str,
    name: str,
    values: np.ndarray,
    theme: style.Theme,
    *,
    band: bool,
    row: int,
    legend: bool,
) -> None:
    """Scores [k, 3] (score, low, high) as a line; `band`: the interval too, of one curve only, or they hide one another."""
    k, drawn = np.arange(len(values)), look(condition, theme)
    there = np.isfinite(values[:, 1])
    if band and there.sum() > 1:
        fig.add_scatter(
            x=np.concatenate([k[there], k[there][::-1]]),
            y=np.concatenate([values[there, 2], values[there, 1][::-1]]),
            fill="toself",
            fillcolor=style.rgba(drawn["color"], 0.15),
            line={"width": 0},
            mode="lines",
            hoverinfo="skip",
            showlegend=False,
            legendgroup=name,
            row=row,
            col=1,
        )
    fig.add_scatter(
        x=k,
        y=values[:, 0],
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="lines+markers",
        line={"color": drawn["color"], "dash": drawn["dash"], "width": 2.5},
        marker={"symbol": drawn["symbol"], "size": 7},
        customdata=values[:, 1:],
        hovertemplate=f"{name}, k = %{{x}}<br>%{{y:.3f}}  [%{{customdata[0]:.3f}},"
        " %{customdata[1]:.3f}]<extra></extra>",
        row=row,
        col=1,
    )


def level(
    fig: go.Figure,
    name: str,
    value: float,
    n: int,
    color: str,
    dash: str,
    *,
    row: int,
    legend: bool,
) -> None:
    """A baseline over all n iterations."""
    fig.add_scatter(
        x=[-0.5, n - 0.5],
        y=[value] * 2,
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="lines",
        line={"color": color, "dash": dash, "width": 1.5},
        hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
        row=row,
        col=1,
    )
