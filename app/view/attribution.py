"""The panel of direct logit attribution: which token's logit, against which, at which position, and its parts."""

from __future__ import annotations

from typing import Any

import streamlit as st

from app.view import figures, notices
from app.view.source import LiveSource, Source

VIEWS = {
    "components": "Attention and MLP of every block",
    "heads": "Heads of one block",
    "iterations": "Sums by iteration",
}
LOOK = (
    "Each cell is what one component adds to the logit, with what later iterations make of it and the final norm held "
    "still; all cells add up to the logit. Compare with a random token’s in the sums by iteration: what an iteration "
    "adds to any token says nothing about this one."
)


def panel(source: Source, position: int | None = None) -> None:
    """Choices and figure for the run in the sidebar; `position` a column of the text, the last if None."""
    st.caption(f":material/lightbulb: {LOOK}")
    left, middle, right = st.columns(3)
    target = left.text_input(
        "Token", key="attributed", bind="query-params", placeholder="what the model predicts",
        help="One token, with its leading space if it has one.",
    )  # fmt: skip
    versus = middle.text_input(
        "Less the logit of", key="versus", bind="query-params", placeholder="nothing",
        help="Another token: the difference of the two logits is taken apart.",
    )  # fmt: skip
    view = right.selectbox(
        "Show",
        list(VIEWS),
        format_func=VIEWS.__getitem__,
        key="attribution_view",
        bind="query-params",
    )
    asked: dict[str, Any] = {}
    if isinstance(source, LiveSource):
        asked = {"target": target or None, "versus": versus or None}
    with notices.calm("This logit cannot be taken apart", key="notice-attribution"):
        found: Any = source.result("attribution", **asked)
        options: dict[str, Any] = {"view": view}
        if view == "heads":
            known = sorted(
                {
                    int(b)
                    for b, s in zip(found.block, found.stage, strict=True)
                    if s == "body" and b >= 0
                }
            )
            options["block"] = st.segmented_control(
                "Body block", known, default=known[0], required=True, key="attribution_block"
            )
        held = {int(p) for p in found.positions}
        figures.show(
            found, "attribution", position=position if position in held else None, **options
        )
