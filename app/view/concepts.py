"""The panel of concept space: where the current token leaves the states, and where the next one enters."""

from __future__ import annotations

import streamlit as st

from app.view import figures, notices
from app.view.source import Source

VIEWS = {"ranks": "Median ranks", "found": "Share at rank 1", "tokens": "By token"}


def panel(source: Source) -> None:
    """View and figure for the run in the sidebar."""
    st.caption(
        ":material/lightbulb: Where the current token falls behind, the states are in concept space; where the next one comes "
        "first, they leave it. The embedding and random weights are the baseline of both."
    )
    view = st.selectbox(
        "View", list(VIEWS), format_func=VIEWS.__getitem__, key="concept_view", bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
    with notices.calm("This model's states cannot be followed", key="notice-concept"):
        figures.show(source.result("concept_space"), "concept-space", view=view)
