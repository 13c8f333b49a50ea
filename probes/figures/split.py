"""Figures of where to loop a plain model: layer distances with their knee, and the loss of every window."""

from __future__ import annotations

from typing import TYPE_CHECKING

from abbie_lens.errors import InputError

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from probes.splits import Split

VIEWS = ("distances", "loss")


def draw(split: Split, view: str = "distances", theme: str = "light") -> go.Figure:
    """`view="distances"` or `"loss"`, the map over (start, length). Errors: InputError."""
    import plotly.graph_objects as go

    if view not in VIEWS:
        raise InputError(f"view={view!r}: expected one of {VIEWS}.")
    template = "plotly_dark" if theme == "dark" else "plotly_white"
    if view == "distances":
        fig = go.Figure(go.Scatter(y=split.angular, mode="lines+markers", name="angle / π"))
        fig.add_vline(x=split.knee, line_dash="dash", annotation_text=f"knee: block {split.knee}")
        fig.update_layout(
            xaxis_title="block", yaxis_title="angle between its input and output, / π"
        )
    else:
        change = split.loss - split.plain_loss
        fig = go.Figure(
            go.Heatmap(z=change, x=split.lengths, y=split.starts, colorscale="RdBu_r", zmid=0)
        )
        fig.update_layout(xaxis_title="blocks in the loop", yaxis_title="first block")
    fig.update_layout(template=template, title=split.title)
    return fig
