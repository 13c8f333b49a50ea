"""Figures on a page: drawn by the result object, in the visitor's theme, with downloads under them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.view import alternative, downloads
from probes import Lens, Result

_MOST_TEXTS = 20
"""Columns of a grid whose cells hold three letters in a window 800 pixels wide."""

_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}


def theme() -> str:
    """ "light" or "dark", as the visitor's browser shows the app."""
    return "dark" if st.context.theme.type == "dark" else "light"


def show(result: Result, key: str, height: int | None = None, **view: Any) -> None:
    """The result's figure, at most `height` pixels high, and its download buttons."""
    draw(of(result, height, **view), key, result.title)
    downloads.buttons(result, key)


def of(result: Result, height: int | None = None, **view: Any) -> go.Figure:
    """The result's figure in the visitor's theme, at most `height` pixels high."""
    figure = result.figure(theme=theme(), **view)
    return figure if height is None else fit(figure, height)


def fit(figure: go.Figure, height: int) -> go.Figure:
    """Lower a figure to `height` pixels, its legend as far below the top edge as it was."""
    own = figure.layout.height or 450
    if own <= height:
        return figure
    legend = figure.layout.legend
    if legend.yref == "container" and legend.y is not None:
        legend.y = 1 - (1 - legend.y) * own / height
    return figure.update_layout(height=height)


def with_cells(figure: go.Figure) -> go.Figure:
    """Let the cells of a selectable grid be clicked, and ring the chosen one.

    The invisible markers take over the cells' hover, since Plotly fires no click where there is none.
    They are small and reach far: among points, Plotly takes the nearest, which is the cell's own
    wherever it is clicked, but overlapping markers would all count as hit.
    """
    grid = next(trace for trace in figure.data if trace.type == "heatmap")
    line = {"width": 2, "color": "#ffffff"}
    figure.update_traces(
        selector={"name": "cells"},
        text=[text for row in grid.customdata for text in row],
        hovertemplate="%{text}<extra></extra>",
        hoverinfo=None,
        marker={"size": 6, "opacity": 0, "color": "rgba(0,0,0,0)", "line": line},
        selected_marker={"size": 18, "opacity": 1},
        unselected_marker_opacity=0,
    )
    grid.update(hoverinfo="skip", hovertemplate=None)
    return figure.update_layout(hoverdistance=200)


def grid_key(lens: Lens, key: str) -> str:
    """A key that tells the style sheet whether the cells are too narrow for text in a narrow window."""
    return f"{key}-dense" if int(lens.valid[0].sum()) > _MOST_TEXTS else key


def draw(fig: go.Figure, key: str, name: str, **options: Any) -> Any:
    """A finished figure in its own template, called `name` where it is read aloud."""
    said = alternative.text(fig, name)
    return st.plotly_chart(
        fig, theme=None, key=f"figure-{key}", config=_CONFIG, alt=said, **options
    )
