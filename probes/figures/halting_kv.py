"""Figure of the KV-sharing error: what each rule on keys costs, beside the memory that it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.colors import series
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.kv import KVSharing


def draw(result: KVSharing, *, theme: style.Theme) -> go.Figure:
    """One bar a rule: mean KL to all keys in nats, and bytes of keys as a share of all of them."""
    rule = f"{labels.escape(result.rule['title'])}, τ = {result.rule['threshold']:g}"
    fig = style.new_figure(
        f"KV-sharing error · {rule}",
        style.subtitle(result, None),
        theme=theme,
        rows=1,
        cols=2,
        panels=["<b>mean KL to all keys</b> (nats)", "<b>keys kept</b>, share of all iterations'"],
        horizontal_spacing=0.16,
    )
    names = [labels.escape(name) for name in result.kv]
    color = series(0, theme)["color"]
    for col, values in enumerate((result.mean_error, result.kv_share), 1):
        fig.add_bar(
            x=names, y=values, marker_color=color, showlegend=False, row=1, col=col,
            hovertemplate="%{x}: %{y:.4g}<extra></extra>",
        )  # fmt: skip
        fig.update_yaxes(rangemode="tozero", row=1, col=col)
    style.caption(fig, f"{result.formula}. Mean over tokens; exits of the run with all keys.")
    return give_room(fig, 280, panel_titles=True)
