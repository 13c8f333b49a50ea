"""A second run beside the sidebar's: another model on its prompt, or its model on another prompt; linked by token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import streamlit as st

from app.settings import Settings
from app.view import comparing, picker, prompts
from app.view.source import LiveSource, Source

WHAT = {"one": "This run alone", "model": "Another model", "prompt": "Another prompt"}


def choose(source: Source) -> list[tuple[str, Source]]:
    """The runs that the page shows, one or two, each with what tells it apart."""
    if not isinstance(source, LiveSource):
        return [("saved run", source)]
    what = st.segmented_control(
        "Beside it", list(WHAT), default="one", required=True, key="second", format_func=WHAT.get,
        bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    names = picker.names(Settings.from_env())
    called = picker.labels(names)
    if what == "model":
        others = comparing.alike(source.model, names, called)
        if not others:
            st.caption("There is no other model on offer.")
            return [(source.model, source)]
        other = st.selectbox(
            "The other model", others, format_func=called.get, key="second_model",
            bind="query-params", label_visibility="collapsed",
        )  # fmt: skip
        pair = {name: called.get(name, name) for name in (source.model, other)}
        return [*comparing.of_models(pair, source)]
    if what == "prompt":
        prompt = prompts.usual(source.model, 1)
        prompts.follow("second_prompt", prompt)
        text = st.text_input(
            "The other prompt", prompt, key="second_prompt", bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
        return [
            (source.text, source),
            (text or "", LiveSource(source.model, text or "", source.n_iters, source.loop)),
        ]
    return [(source.model, source)]


def linked(tokens: Sequence[str], valid: Any, text: str, position: int) -> int | None:
    """Where the token `text`, at `position` in the first run, stands in another: there, else where it first appears.

    The same place if it does not appear; None beyond the end.
    """
    there = np.flatnonzero(valid).tolist()
    if position in there and tokens[position] == text:
        return position
    again = [p for p in there if tokens[p] == text]
    if again:
        return min(again, key=lambda p: abs(p - position))
    return position if position in there else None
