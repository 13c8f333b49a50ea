"""The figures of the Attention page, of one run or of two side by side: patterns, and their measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import streamlit as st

from app.view import beside, comparing, figures
from probes import Attention, overlays
from probes.dynamics.patterns import TITLES

HEADS = 8  # that stand side by side
TALL = 560
"""Pixels of half a page."""

Runs = Sequence[tuple[str, Attention]]


def patterns(runs: Runs, position: int | None) -> None:
    """One block's heads over the iterations, and one pattern with its tokens, chosen in the first run."""
    first = runs[0][1]
    n_rows, n_blocks, n_heads = first.entropy.shape
    blocks = [site.removesuffix(".attn.hook_pattern") for site in first.sites]
    left, middle, right, weights = st.columns([2, 2, 3, 2], vertical_alignment="bottom")
    block = left.selectbox("Block", range(n_blocks), format_func=lambda b: blocks[b],
                           key=f"block_of_{n_blocks}", bind="query-params")  # fmt: skip
    head = middle.selectbox("Head", range(n_heads), key=f"head_of_{n_heads}", bind="query-params")
    iteration = n_rows - 1
    if n_rows > 1:
        iteration = right.slider("Iteration k", 0, n_rows - 1, n_rows - 1, key=f"k_of_{n_rows}",
                                 bind="query-params")  # fmt: skip
    if all(found.control is not None and len(found.control.pattern) for _, found in runs):
        whose = weights.segmented_control(
            "Weights", ["trained", "random"], default="trained", required=True, key="weights",
            bind="query-params",
        )  # fmt: skip
        if whose == "random":
            runs = [(name, found.control) for name, found in runs]  # type: ignore[misc]
    many = [_heads(found, block, head) for _, found in runs]
    one = [_one(first, found, block, head, iteration, position) for _, found in runs]
    if len(runs) > 1:
        comparing.side_by_side(runs, "attention-heads", "Attention patterns", many, TALL)
        comparing.side_by_side(runs, "attention-pattern", "Attention pattern", one, TALL)
        if many[0]["block"] != many[1]["block"] or one[0]["head"] != one[1]["head"]:
            st.caption("The other model has fewer blocks or heads: its last one is shown.")
    else:
        shown = runs[0][1]
        halves = st.columns(2)
        with halves[0]:
            figures.show(shown, "attention-heads", height=640, **many[0])
        with halves[1]:
            figures.show(shown, "attention-pattern", height=640, **one[0])
    if n_heads > HEADS:
        heads = many[0]["heads"]
        st.caption(
            f"Heads {heads[0]} to {heads[-1]} of {n_heads}: choose another head for the next eight."
        )


def measures(runs: Runs, position: int | None) -> None:
    """The measures against the iteration, or one of them of every head."""
    view = st.segmented_control(
        "Measures", ["measures", "heads"], default="measures", required=True, key="attention_view",
        format_func={"measures": "Against the iteration", "heads": "Every head"}.get,
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    if view == "measures":
        if len(runs) > 1:
            # Six panels in half a page could not be read: one figure has both.
            figures.show(overlays.attention(runs), "two-attention-measures")
        else:
            figures.show(runs[0][1], "attention-measures", view="measures", position=position)
        return
    names = [name for name in TITLES if name != "sink_rate"]
    which = st.selectbox(
        "Measure", names, key="measure", bind="query-params", label_visibility="collapsed",
        format_func=lambda name: TITLES[name][0].upper() + TITLES[name][1:],
    )  # fmt: skip
    options = {"view": "heads", "measure": which}
    if len(runs) > 1:
        views = [options] * len(runs)
        comparing.side_by_side(runs, "attention-by-head", "Every head", views, TALL)
    else:
        figures.show(runs[0][1], "attention-by-head", **options)


def _heads(found: Attention, block: int, head: int) -> dict[str, Any]:
    """The chosen head among its eight, in the chosen block, as far as this model has them."""
    _, n_blocks, n_heads = found.entropy.shape
    begin = min(head, n_heads - 1) // HEADS * HEADS
    return {
        "view": "patterns",
        "block": min(block, n_blocks - 1),
        "heads": list(range(begin, min(begin + HEADS, n_heads))),
    }


def _one(
    first: Attention, found: Attention, block: int, head: int, iteration: int, position: int | None
) -> dict[str, Any]:
    """The chosen pattern with the token of the first run, as far as this one has them."""
    n_rows, n_blocks, n_heads = found.entropy.shape
    if position is not None:
        text = first.tokens[0][position]
        position = beside.linked(found.tokens[0], found.valid[0], text, position)
    return {
        "view": "pattern",
        "block": min(block, n_blocks - 1),
        "head": min(head, n_heads - 1),
        "iteration": min(iteration, n_rows - 1),
        "position": position,
    }
