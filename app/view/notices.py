"""Messages: calm, in plain words, and never a traceback for something the user can put right."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from abbie_lens.errors import AbbieLensError


def notice(title: str, message: str, key: str = "notice") -> None:
    """A bordered box with `title` (ours) and `message` (any text, shown as typed)."""
    with st.container(border=True, key=key):
        st.markdown(f":material/info: **{title}**")
        st.text(message)


@contextmanager
def calm(title: str = "This cannot be run as asked", key: str = "notice") -> Iterator[None]:
    """Show an error of ours as a notice and go on with what comes after the block."""
    try:
        yield
    except AbbieLensError as error:
        notice(title, str(error), key)
