"""The iso-FLOPs test as a figure: what a rule gains over one depth for all, and over its own exits dealt at random."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.halting_classes import subtitle
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.study_result import HaltingStudy

REFERENCES = {
    "against_fixed": ("one depth for all, same FLOPs", "circle"),
    "against_random": ("its exits dealt at random", "x"),
}


def draw(result: HaltingStudy, theme: style.Theme) -> go.Figure:
    """Paired differences of NLL at the point of each rule closest to half the depth, with intervals."""
    middle = (1 + result.n_iters) / 2
    names = result.names[:-1]
    at = [result.point_at(name, middle) for name in names]
    rows = [
        f"{labels.escape(result.rules[i]['title'])}<br>k = {result.metrics['depth'][i, j, 0]:.2f}"
        for i, j in enumerate(at)
    ]
    fig = style.new_figure("Are these the right tokens?", subtitle(result), theme=theme)
    for number, (metric, (title, symbol)) in enumerate(REFERENCES.items()):
        found = result.metrics[metric][np.arange(len(names)), at]
        value, low, high = found.T
        color = style.series(number, theme)["color"]
        fig.add_scatter(
            x=value, y=rows, name=f"minus {title}", mode="markers",
            marker={"symbol": symbol, "size": 10, "color": color},
            error_x={
                "type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low,
                "color": color, "thickness": 1.5, "width": 3,
            },
            hovertemplate="%{y}<br>%{x:+.4f} nats<extra></extra>",
        )  # fmt: skip
    fig.add_vline(x=0, line={"color": style.palette(theme).ink, "dash": "dash", "width": 1.5})
    fig.update_xaxes(title={"text": "difference of NLL (nats); below 0 the rule is better"})
    fig.update_yaxes(type="category", autorange="reversed", automargin=True)
    style.caption(
        fig,
        "Each rule near half the depth, its own cost counted; 95% paired bootstrap over documents. No mark: undefined, "
        "as FLOPs are for models that are not counted.",
        width=62,
    )
    return give_room(fig, 120 + 34 * len(rows), legend_lines=1)
