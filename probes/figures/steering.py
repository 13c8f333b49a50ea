"""Figure of steering: each measure against the strength, the placebo's band behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.interventions.steering import Steering

TITLES = {"kl": "KL to the plain run (nats)", "nll": "change of NLL (nats)", "logit difference": "change of the logit difference"}  # fmt: skip


def draw(result: Steering, *, theme: style.Theme) -> go.Figure:
    """One panel a measure."""
    order = np.argsort(result.strengths, kind="stable")
    x, bounds = result.strengths[order], result.interval()
    fig = style.new_figure(
        result.title,
        f"{style.subtitle(result)}<br>{result.site}, iterations {', '.join(map(str, result.iterations))}",
        theme=theme,
        rows=1,
        cols=len(result.measures),
        panels=[f"<b>{TITLES[m]}</b>" for m in result.measures],
        horizontal_spacing=0.11,
    )
    for i, _ in enumerate(result.measures):
        cell: dict[str, Any] = {"row": 1, "col": i + 1}
        low, high = bounds[i, order].T
        placebo, vector = (style.role(r, theme) for r in ("control", "trained"))
        add_band(fig, x, low, high, placebo["color"], alpha=0.2, **cell)
        for name, look, y in (
            ("random directions, mean", placebo, result.placebo[i, order].mean(-1)),
            ("the vector", vector, result.effect[i, order]),
        ):
            fig.add_scatter(
                x=x, y=y, name=name, legendgroup=name, showlegend=i == 0, mode="lines+markers",
                line={"color": look["color"], "dash": look["dash"], "width": 2},
                marker={"symbol": look["symbol"], "size": 7},
                hovertemplate=f"<b>{name}</b><br>α = %{{x:.3g}}<br>%{{y:.4g}}<extra></extra>", **cell,
            )  # fmt: skip
        fig.add_hline(y=0, line={"width": 1, "color": style.palette(theme).line}, **cell)
        fig.update_xaxes(title_text="strength α", zeroline=False, **cell)
        fig.update_yaxes(zeroline=False, nticks=6, **cell)
    text = f"{result.formula}, {100 * result.confidence:g}% of {result.placebo.shape[-1]} draws."
    style.caption(fig, text, below=50)
    fig.update_layout(margin_t=110)
    return give_room(fig, 300, legend_lines=2, panel_titles=True)
