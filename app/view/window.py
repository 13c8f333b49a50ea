"""The loop of a plain decoder in the sidebar: which blocks, by which rule; kept in the address like r."""

from __future__ import annotations

from typing import Any

import streamlit as st

from abbie_lens.bridged import Loop
from app import looping

FORMULAS = {
    "repeat": "x ← g(x): the window again and again",
    "abbie-d": "x ← g(x) + x, read out before the sum",
    "damped": "x ← (1 − 1/r) x + (1/r) g(x): r small steps",
    "anchored": "damped, read out mixed with β of one plain pass",
}


def controls(n_blocks: int) -> Loop:
    """Sliders of start and stop, the rule, and its beta; r = 1 is the plain model whatever they say."""
    start, stop = looping.usual_window(n_blocks)
    settle({"start": start, "stop": stop}, n_blocks)
    with st.container(border=True, key="window"):
        first = st.slider(
            "Loop start", 0, n_blocks - 1, start, key="start", bind="query-params",
            help="First block in the loop; those before it run once: the Head.",
        )  # fmt: skip
        if st.session_state.get("stop", stop) <= first:
            st.session_state["stop"] = first + 1
        last = st.slider(
            "Loop stop", 1, n_blocks, stop, key="stop", bind="query-params",
            help="First block after the loop; from it on they run once: the Tail.",
        )  # fmt: skip
        last = max(last, first + 1)  # a link may ask for a loop without blocks
        rule = st.selectbox(
            "Rule", list(looping.RULES), index=list(looping.RULES).index(looping.USUAL_RULE),
            key="loop", bind="query-params",
            help="How the looped blocks g carry the state x on. " + "; ".join(
                f"{name}: {formula}" for name, formula in FORMULAS.items()
            ),
        )  # fmt: skip
        beta = None
        if rule == "anchored":
            beta = st.slider("β, share of the plain pass", 0.0, 1.0, 0.5, 0.05, key="beta",
                             bind="query-params")  # fmt: skip
        st.caption(
            f"{FORMULAS[rule]}. Blocks {first} to {last - 1} of {n_blocks}; *r* = 1 is the plain model."
        )
    return looping.make(first, last, rule, beta)


def settle(usual: dict[str, Any], n_blocks: int) -> None:
    """Before the sliders are drawn: what was chosen for a model of another depth gives way to this one's usual window."""
    if st.session_state.get("window_of", n_blocks) != n_blocks:
        st.session_state.update(usual)
    st.session_state["window_of"] = n_blocks
