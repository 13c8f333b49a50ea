"""Figure of the way back after noise: distances by iteration, a line for every size, random weights dashed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.interventions.recovery import Recovery

TITLES = ("direction", "read-out")


def draw(result: Recovery, *, theme: style.Theme) -> go.Figure:
    """Direction beside read-out, logarithmic."""
    fig = style.new_figure(
        result.title,
        f"{style.subtitle(result, None)}<br>noise at iteration {result.at}",
        theme=theme,
        rows=1,
        cols=2,
        panels=[f"<b>distance of {t}</b>" for t in TITLES],
        horizontal_spacing=0.1,
    )
    runs = [(result.control, "random weights")] if result.control is not None else []
    for run, whose in (*runs, (result, "trained weights")):
        for s, size in enumerate(run.sizes):
            look = style.series(s, theme)
            for d in range(2):
                cell: dict[str, Any] = {"row": 1, "col": d + 1}
                low, median, high = np.where(run.distance[d, s] > 0, run.distance[d, s], np.nan).T
                x = np.arange(run.at, run.at + len(median))
                trained = run is result
                if trained:
                    add_band(fig, x, low, high, look["color"], alpha=0.15, **cell)
                name = f"σ = {size:g}" + ("" if trained else ", random weights")
                fig.add_scatter(
                    x=x, y=median, name=name, legendgroup=name, showlegend=d == 0, mode="lines+markers",
                    line={"color": look["color"], "dash": "solid" if trained else "dot", "width": 2},
                    marker={"symbol": look["symbol"], "size": 6 if trained else 4},
                    hovertemplate=f"<b>{name}</b>, {whose}<br>k = %{{x}}<br>median %{{y:.3g}}<extra></extra>",
                    **cell,
                )  # fmt: skip
    for col in (1, 2):
        style.iteration_axis(
            fig, len(result.distance[0, 0]), first=result.at, max_ticks=9, row=1, col=col
        )
        fig.update_yaxes(type="log", exponentformat="power", row=1, col=col)
    ends = ", ".join(
        f"{kl:.3g} at σ = {s:g}" for s, kl in zip(result.sizes, result.kl, strict=True)
    )
    style.caption(
        fig, f"{result.formula}. KL to the plain prediction at the end, nats: {ends}.", below=50
    )
    fig.update_layout(margin_t=110)
    return give_room(fig, 320, legend_lines=3, panel_titles=True)
