"""Attention: where every head looks in every iteration, and whether that comes to rest."""

import streamlit as st

from app.view import figures, notices, page, readings, tokens
from probes import Attention

HEADS = 8  # that stand side by side

page.header(
    "Where do the tokens look, and does that change from iteration to iteration?",
    "The Body's attention patterns: a row is a token that asks, a column one that it reads.",
)
found: Attention = page.source().result("attention")  # type: ignore[assignment]
readings.cards(found, 4)
position = tokens.choose(found, found.valid)
blocks = [site.removesuffix(".attn.hook_pattern") for site in found.sites]
n_rows, _, n_heads = found.entropy.shape

if len(found.pattern):
    left, middle, right, weights = st.columns([2, 2, 3, 2], vertical_alignment="bottom")
    block = left.selectbox("Block", range(len(blocks)), format_func=lambda b: blocks[b],
                           key=f"block_of_{len(blocks)}", bind="query-params")  # fmt: skip
    head = middle.selectbox("Head", range(n_heads), key=f"head_of_{n_heads}", bind="query-params")
    iteration = n_rows - 1
    if n_rows > 1:
        iteration = right.slider("Iteration k", 0, n_rows - 1, n_rows - 1, key=f"k_of_{n_rows}",
                                 bind="query-params")  # fmt: skip
    shown = found
    if found.control is not None and len(found.control.pattern):
        whose = weights.segmented_control(
            "Weights", ["trained", "random"], default="trained", required=True, key="weights",
            bind="query-params",
        )  # fmt: skip
        shown = found if whose == "trained" else found.control
    many, one = st.columns(2)
    with many:
        begin = head // HEADS * HEADS
        beside = list(range(begin, min(begin + HEADS, n_heads)))
        figures.show(
            shown, "attention-heads", height=640, view="patterns", block=block, heads=beside
        )
        if n_heads > HEADS:
            st.caption(
                f"Heads {begin} to {beside[-1]} of {n_heads}: choose another head for the next eight."
            )
    with one:
        figures.show(
            shown, "attention-pattern", height=640, view="pattern", block=block, head=head,
            iteration=iteration, position=position,
        )  # fmt: skip
else:
    notices.notice(
        "The patterns themselves are not shown",
        "This prompt is too long to keep every pattern of every iteration. Shorten it, or lower r; the numbers below "
        "are of all tokens.",
    )
measure = st.segmented_control(
    "Measures", ["measures", "heads"], default="measures", required=True, key="attention_view",
    format_func={"measures": "Against the iteration", "heads": "Every head"}.get,
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
if measure == "measures":
    figures.show(found, "attention-measures", view="measures", position=position)
else:
    names = {"entropy": "Entropy", "sink": "Mass on the first token", "local": "Local mass",
             "overlap": "Overlap of k and k − 1", "concentration": "Concentration on one key"}  # fmt: skip
    which = st.selectbox("Measure", list(names), format_func=names.get, key="measure",
                         bind="query-params", label_visibility="collapsed")  # fmt: skip
    figures.show(found, "attention-by-head", view="heads", measure=which)
