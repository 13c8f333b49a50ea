"""Figure of the which-iteration probe: the iteration that is named against the true one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.probing.iterations import WhichIteration

_NAMES = (
    ("normalised", "directions"),
    ("raw", "raw states"),
    ("norm", "norm alone"),
    ("untrained_normalised", "fresh weights, directions"),
    ("untrained_raw", "fresh weights, raw states"),
    ("untrained_norm", "fresh weights, norm alone"),
    ("shuffled", "shuffled labels"),
    ("majority", "majority class"),
)


def draw(result: WhichIteration, *, theme: style.Theme) -> go.Figure:
    """Shares of the true iteration as a grid; every accuracy with its interval in the caption."""
    counts = result.confusion
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    k = np.arange(len(counts))
    fig = style.new_figure(
        result.title,
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {labels.escape(result.site)} ·"
        f" {sum(result.n_documents)} documents",
        theme=theme,
    )
    fig.add_heatmap(
        z=shares.T,
        x=k,
        y=k,
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        customdata=counts.T,
        hovertemplate="k = %{x}, named %{y}<br>%{customdata} tokens, %{z:.1%}<extra></extra>",
        colorbar={"title": {"text": "share of the states of iteration k", "side": "right"}},
    )
    style.iteration_axis(fig, len(k))
    style.iteration_axis(fig, len(k), "y", title="iteration named", max_ticks=9)
    fig.update_xaxes(showgrid=False)
    fig.update_yaxes(showgrid=False)
    said = "; ".join(
        f"{title} {value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if np.isfinite(low) else "")
        for name, title in _NAMES
        for value, low, high in [getattr(result, name)]
    )
    style.caption(fig, f"{result.formula}. Accuracy: {said}.")
    return give_room(fig, 320)
