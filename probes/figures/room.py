"""Room for everything around the axes: a plot area of a known height, with a legend above it."""

from __future__ import annotations

import plotly.graph_objects as go

_HEADER_PX, _LEGEND_PX, _PANEL_TITLE_PX = 78, 22, 26


def give_room(
    fig: go.Figure, plot_px: int, *, legend_lines: int = 0, panel_titles: bool = False
) -> go.Figure:
    """Make the plot area `plot_px` high, the legend on lines of its own between subtitle and plot.

    Call it last: the caption's margin has to be there.
    """
    top = _HEADER_PX + _LEGEND_PX * legend_lines + _PANEL_TITLE_PX * panel_titles
    height = top + plot_px + int(fig.layout.margin.b or 80)
    legend = {
        "orientation": "h",
        "x": 0,
        "xanchor": "left",
        # In the container's pixels: in the plot's own unit the gap would grow with the plot.
        "yref": "container",
        "y": 1 - (_HEADER_PX - 14) / height,
        "yanchor": "top",
    }
    return fig.update_layout(height=height, margin_t=top, legend=legend)
