"""The one token that all figures of a page pick out: chosen from a list, or clicked in the text."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from app.view import plain
from probes import Result

KEY = "token"


def choose(result: Result, valid: np.ndarray) -> int | None:
    """The list of the first sequence's tokens; None for all of them."""
    there: list[int] = np.flatnonzero(valid[0]).tolist()
    if st.session_state.get(KEY) not in (None, *there):
        st.session_state[KEY] = None  # chosen in a longer prompt
    return st.selectbox(
        "Token", there, index=None, key=KEY, bind="query-params", persist_state="session",
        format_func=lambda p: f"{p}: {plain.token(result.tokens[0][p], 16)}" if p in there else str(p),
        placeholder="Token: all (choose one, or click it in the text)",
        label_visibility="collapsed",
    )  # fmt: skip


def clicked(chart: str) -> Any:
    """A callback that takes over the token clicked in the chart with this key."""

    def take() -> None:
        points = st.session_state[chart].selection.points
        if points:
            st.session_state[KEY] = int(points[0]["customdata"][0])

    return take
