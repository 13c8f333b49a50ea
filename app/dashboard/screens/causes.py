"""Causes: which state carries the answer, what a push along a direction changes, and what is lost without a part."""

import streamlit as st

from app.view import lost, page, patched, steered

PANELS = {
    "patching": "Patching",
    "steering": "Steering",
    **lost.PANELS,
}
QUESTIONS = {
    "patching": (
        "Which state carries the answer?",
        "The corrupt prompt is run with one value of the clean run, at every token and iteration in turn: where the clean "
        "answer comes back, that value caused it. The same with a third prompt's values stands below it.",
    ),
    "steering": (
        "Does a direction steer it?",
        "The mean state of some texts less that of others is added to every token of the sidebar's prompt; random "
        "directions of the same length stand beside it.",
    ),
    **lost.QUESTIONS,
}

above = st.container()
name = st.segmented_control(
    "Panel", list(PANELS), default="patching", required=True, key="cause", format_func=PANELS.__getitem__,
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
with above:
    page.header(*QUESTIONS[name])
source = page.source()
if name == "patching":
    patched.panel(source)
elif name == "steering":
    steered.panel(source)
else:
    lost.panel(name, source)
