"""Attention: where every head looks in every iteration, and whether that comes to rest."""

import streamlit as st

from app.view import attending, beside, notices, page, plain, readings, tokens
from probes import Attention

page.header(
    "Where do the tokens look, and does that change from iteration to iteration?",
    "The Body's attention patterns: a row is a token that asks, a column one that it reads. What random weights do as "
    "well is the architecture, not the training.",
)
runs: list[tuple[str, Attention]] = []
for i, (name, source) in enumerate(beside.choose(page.source())):
    with notices.calm(f"This cannot be run as asked: {plain.markdown(name)}", key=f"notice-{i}"):
        runs.append((name, source.result("attention")))  # type: ignore[arg-type]
if not runs:
    st.stop()
if len(runs) == 1:
    readings.cards(runs[0][1], 4)
else:
    for column, (name, found) in zip(st.columns(len(runs)), runs, strict=True):
        with column:
            st.caption(plain.markdown(name))
            readings.lines(found)
first = runs[0][1]
position = tokens.choose(first, first.valid)
if all(len(found.pattern) for _, found in runs):
    attending.patterns(runs, position)
else:
    notices.notice(
        "The patterns themselves are not shown",
        "A prompt is too long to keep every pattern of every iteration. Shorten it, or lower r; the numbers below "
        "are of all tokens.",
    )
attending.measures(runs, position)
