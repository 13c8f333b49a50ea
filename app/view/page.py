"""What every page starts with: its question, one line of explanation, and where its results come from."""

from __future__ import annotations

import streamlit as st

from app.view import plain
from app.view.source import Source


def header(question: str, explanation: str) -> None:
    """The page's question, and what is plotted in one line."""
    st.markdown(f"### {question}")
    st.caption(explanation)


def source() -> Source:
    """The model run or bundle chosen in the sidebar."""
    return st.session_state["source"]


def token(text: str) -> str:
    """A token as a table shows it."""
    return plain.token(text)
