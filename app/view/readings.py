"""Numbers with a sentence each, as cards: the trained weights' value, that of random ones, and what it means."""

from __future__ import annotations

import streamlit as st

from app.view import plain
from probes import Result, readings
from probes.readings.base import number


def cards(result: Result, across: int) -> None:
    """The result's readings, `across` in a row."""
    found = readings.of(result)
    for first in range(0, len(found), across):
        row = st.columns(across) if across > 1 else [st.container() for _ in range(across)]
        for place, reading in zip(row, found[first : first + across], strict=False):
            with place.container(border=True, height="stretch" if across > 1 else "content"):
                st.caption(f"{plain.markdown(reading.name)}")
                st.markdown(f"**{plain.markdown(number(reading.value))}**")
                if reading.control == reading.control:
                    st.caption(f"random weights: {plain.markdown(number(reading.control))}")
                st.caption(plain.markdown(reading.says))


def lines(result: Result) -> None:
    """The same as lines of text, for half a page."""
    for reading in readings.of(result):
        control = ""
        if reading.control == reading.control:
            control = f" (random weights {number(reading.control)})"
        st.caption(
            f"**{plain.markdown(f'{reading.name} = {number(reading.value)}')}**"
            + plain.markdown(f"{control}: {reading.says}")
        )


def any_of(result: Result) -> bool:
    """Whether the result has numbers with a sentence."""
    return bool(readings.of(result))
