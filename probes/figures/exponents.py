"""Finite-time Lyapunov exponents: by rank over all tokens, and the leading one token by token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import chosen, labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.lyapunov import Lyapunov

_PLOT_PX = 280


def draw(result: Lyapunov, *, theme: style.Theme, batch: int = 0) -> go.Figure:
    """Left: exponents by rank, median and 10–90% of tokens; right: the leading one of every token of a sequence."""
    chosen.sequence(result, batch)
    fig = style.new_figure(
        result.title,
        f"{style.subtitle(result, batch)}<br>counted: iterations {result.transient} to {result.n_iters - 1}",
        theme=theme,
        rows=1,
        cols=2,
        panels=["by rank, all tokens", "the leading one, token by token"],
        column_widths=[0.3, 0.7],
        horizontal_spacing=0.1,
        shared_yaxes=True,
    )
    for role, one in (("control", result.control), ("trained", result)):
        if one is not None:
            _ranks(fig, one, role, theme)
            _tokens(fig, one, role, batch, theme)
    fig.update_xaxes(title_text="rank i", dtick=1, tickangle=0, row=1, col=1)
    fig.update_yaxes(title_text="λ, nats an iteration", row=1, col=1)
    below = style.token_axis(fig, result.tokens[batch], "x", row=1, col=2)
    fig.add_hline(y=0, line={"color": style.palette(theme).muted, "width": 1, "dash": "dot"})
    style.caption(
        fig,
        f"{result.formula}. Of the {'direction map' if result.map == 'direction' else 'step'}. Below 0 nearby states "
        "come together, above they part. Bars: 10–90% of tokens (left), how far the two halves of the run differ (right).",
        below=below,
    )
    return give_room(fig, _PLOT_PX, legend_lines=1, panel_titles=True)


def _ranks(fig: go.Figure, result: Lyapunov, role: Any, theme: style.Theme) -> None:
    look, values = style.role(role, theme), result.exponents[result.valid]
    values = values[np.isfinite(values).all(-1)]
    if not len(values):
        return
    low, median, high = np.quantile(values, (0.1, 0.5, 0.9), axis=0)
    fig.add_scatter(
        x=np.arange(1, len(median) + 1),
        y=median,
        error_y={"array": high - median, "arrayminus": median - low, "thickness": 1, "width": 3},
        mode="lines+markers",
        name=style.ROLES[role],
        legendgroup=role,
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 7},
        hovertemplate=f"<b>{style.ROLES[role]}</b><br>i = %{{x}}<br>median λ = %{{y:.3f}}<extra></extra>",
        row=1,
        col=1,
    )


def _tokens(fig: go.Figure, result: Lyapunov, role: Any, batch: int, theme: style.Theme) -> None:
    look, tokens = style.role(role, theme), result.tokens[batch]
    names = [labels.token_label(token) for token in tokens]
    fig.add_scatter(
        x=np.arange(len(tokens)),
        y=result.exponents[batch, :, 0],
        error_y={"array": result.error[batch, :, 0], "thickness": 1, "width": 2},
        mode="markers",
        name=style.ROLES[role],
        legendgroup=role,
        showlegend=False,
        marker={"symbol": look["symbol"], "color": look["color"], "size": 6},
        customdata=names,
        hovertemplate=f"<b>{style.ROLES[role]}</b><br>%{{customdata}} (position %{{x}})<br>λ₁ = %{{y:.3f}}<extra></extra>",
        row=1,
        col=2,
    )
