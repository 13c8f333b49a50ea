"""How far pushes of growing size move the end of a run, with what the end depends on in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.basins import PathIndependence

_PLOT_PX = 300


def draw(result: PathIndependence, *, theme: style.Theme) -> go.Figure:
    """Median and 10–90% over tokens of ‖u(h′) − u(h*)‖ against the size of the push."""
    sides = [("control", result.control), ("trained", result)]
    fig = style.new_figure(
        result.title,
        f"{style.subtitle(result, None)}<br>{style.ROLES['trained']}: {_numbers(result)}",
        theme=theme,
    )
    for role, one in sides:
        if one is not None:
            _curve(fig, one, role, theme)
    fig.update_xaxes(type="log", title_text="size ε of the push, in lengths of the state")
    fig.update_yaxes(type="log", title_text="‖u(h′) − u(h*)‖", exponentformat="power")
    if result.reason:
        fig.add_annotation(
            text=labels.escape(f"Undefined for {result.reason}"),
            xref="paper", yref="paper", x=0.5, y=0.5, showarrow=False,
        )  # fmt: skip
    else:
        fig.add_hline(
            y=result.tolerance,
            line={"color": style.palette(theme).muted, "dash": "dot", "width": 1.5},
        )
    reasons = f" Not defined: {result.reason_inputs}" if result.reason_inputs else ""
    still = result.still[result.valid & np.isfinite(result.still)]
    end = (
        f" Last direction step of the undisturbed run, median: {np.median(still):.1g}."
        if len(still)
        else ""
    )
    random = f" With random weights: {_numbers(result.control)}." if result.control else ""
    style.caption(
        fig,
        f"{result.formula}. Band: 10–90% of tokens. Dotted: the tolerance.{end}{reasons}{random}",
        below=52,
    )
    return give_room(fig, _PLOT_PX, legend_lines=1)


def _numbers(result: PathIndependence) -> str:
    named = {
        "cos from other inputs": result.from_inputs,
        "from noise": result.from_noise,
        "input dependence": result.input_dependence,
    }
    shown = [
        f"{name} {np.nanmedian(values):.2f}"
        for name, values in named.items()
        if np.isfinite(values).any()
    ]
    return ", ".join(shown) if shown else "undefined"


def _curve(fig: go.Figure, result: PathIndependence, role: Any, theme: style.Theme) -> None:
    look = style.role(role, theme)
    values = result.moved[:, result.valid]
    quantiles = np.full((3, len(values)), np.nan)
    for i, row in enumerate(values):
        if np.isfinite(row).any():
            # The smallest that a difference of unit vectors in float64 can be, for a logarithmic axis.
            quantiles[:, i] = np.nanquantile(np.maximum(row, np.finfo(float).eps), (0.1, 0.5, 0.9))
    low, median, high = quantiles
    add_band(fig, result.sizes, low, high, look["color"], alpha=0.18)
    fig.add_scatter(
        x=result.sizes,
        y=median,
        mode="lines+markers",
        name=style.ROLES[role],
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 7},
        hovertemplate=f"<b>{style.ROLES[role]}</b><br>ε = %{{x}}<br>median %{{y:.2g}}<extra></extra>",
    )
