"""Analyses, each computed once per (checkpoint, text, r, options) and shared by all visitors."""

from __future__ import annotations

from typing import Any

import streamlit as st

from abbie_lens import overflow
from abbie_lens.bridged import Loop
from abbie_lens.errors import AbbieLensError, InputError
from app import exporting
from app.view import loading
from probes import Result


def model(name: str, loop: Loop | None = None) -> Any:
    """The model called `name` (bundled or installed name, folder, hub id), loaded once for all visitors.

    `loop` of a plain decoder; None: the usual one. Errors: AbbieLensError.
    """
    return loading.loaded(name, loop).model


def checkpoint(name: str, loop: Loop | None = None) -> tuple[str, str]:
    """What tells the runs of the model called `name` from those of another, or of the same name before."""
    return loading.loaded(name, loop).checkpoint


def deepest(name: str, loop: Loop | None = None) -> int | None:
    """Most iterations that the model called `name` takes; None where any number does, or it cannot be loaded."""
    try:
        return model(name, loop).cfg.loop.max_depth
    except AbbieLensError:
        return None


def analysis(
    kind: str, name: str, text: str, n_iters: int, loop: Loop | None = None, /, **options: Any
) -> Result:
    """Result of one analysis of one prompt. Errors: InputError for an empty prompt."""
    if not text.strip():
        raise InputError("The prompt is empty: type some text in the sidebar.")
    it = loading.loaded(name, loop)
    if forecast := _overflow(it.model, it.checkpoint, text, n_iters):
        st.session_state.setdefault("forecasts", {})[forecast] = None  # the frame shows them
    return _analyse(kind, it.model, it.checkpoint, text, n_iters, tuple(sorted(options.items())))


# Results are frozen and their arrays read-only, so one object serves every session without copies.
@st.cache_resource(max_entries=64, show_spinner="Running the model…")
def _analyse(
    kind: str, _model: Any, checkpoint: tuple[str, str], text: str, n_iters: int, options: tuple
) -> Result:
    return exporting.run(kind, _model, text, n_iters, **dict(options))


@st.cache_data(max_entries=64, show_spinner=False)
def _overflow(_model: Any, checkpoint: tuple[str, str], text: str, n_iters: int) -> str:
    """When the states of this run leave the range of their dtype; empty if they do not."""
    if _model.cfg.loop.growth(_model.cfg) <= 1 or n_iters < overflow.AT:
        return ""
    with overflow.forecasts() as heard:
        state = _model.begin(_model.to_tokens(text), n_iters=n_iters)
        for _ in range(overflow.AT):
            state = _model.step(state)
    return "".join(heard[:1])
