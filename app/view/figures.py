"""Figures on a page: drawn by the result object, in the visitor's theme, with downloads under them."""

from __future__ import annotations

from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app.view import downloads
from probes import Result

_CONFIG = {
    "displaylogo": False,
    "modeBarButtonsToRemove": ["select2d", "lasso2d", "autoScale2d"],
    "toImageButtonOptions": {"format": "svg"},
}


def theme() -> str:
    """ "light" or "dark", as the visitor's browser shows the app."""
    return "dark" if st.context.theme.type == "dark" else "light"


def show(result: Result, key: str, **view: Any) -> None:
    """The result's figure and its download buttons."""
    draw(result.figure(theme=theme(), **view), key, alt=result.title)
    downloads.buttons(result, key)


def draw(fig: go.Figure, key: str, alt: str, **options: Any) -> Any:
    """A finished figure in its own template."""
    return st.plotly_chart(
        fig, theme=None, key=f"figure-{key}", config=_CONFIG, alt=alt or key, **options
    )
