"""Long work of a page: one job a session and slot, its progress, its cancel button, and finished results kept for all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from abbie_lens.errors import AbbieLensError
from app.view import notices
from app.view.jobs import Job
from app.view.visitor import Visitor
from probes.progress import Callback

_keeping = threading.Lock()
MOST = 48
"""Finished results that are kept; the oldest make room."""


@dataclass(frozen=True)
class Words:
    """What a page says about its work."""

    waiting: str
    """Title while nothing was asked for."""
    how: str
    """What to press, and how long it takes."""
    doing: str
    """Before "3 of 8"."""
    steps: str
    stopped: str
    refused: str
    """Title of an error of ours."""
    changed: str
    """Said of a result of other choices than the present ones."""


@st.cache_resource(max_entries=1)
def _finished() -> dict[Hashable, Any]:
    """Finished results, shared by all visitors."""
    return {}


def known(key: Hashable) -> Any | None:
    """The finished result of `key`; None if there is none."""
    return _finished().get(key)


def start(slot: str, asked: Any, work: Callable[[Callback], Any], key: Hashable = None) -> None:
    """Begin `work` in this session's `slot`, after stopping what ran there before; with a `key`, nothing finished is run again.

    It stops when the visitor has gone.
    """
    cancel(slot)
    finished, visitor = _finished(), Visitor()

    def kept(told: Callback) -> Any:
        def progress(done: int, total: int) -> object:
            return False if visitor.gone() else told(done, total)

        if key is None:
            return work(progress)
        if (done := finished.get(key)) is None:
            done = work(progress)
            with _keeping:
                while len(finished) >= MOST:
                    finished.pop(next(iter(finished)))
                finished[key] = done
        return done

    st.session_state[slot] = (asked, Job(kept))


def cancel(slot: str) -> None:
    """Stop what runs in this session's slot, if anything does."""
    if job := st.session_state.get(slot):
        job[1].cancel()


def outcome(
    slot: str, asked: Any, words: Words, key: Hashable = None, *, older: bool = True
) -> Any | None:
    """The result of `asked`; draws progress, or why there is none. `older`: show the last result meanwhile."""
    if key is not None and (done := known(key)) is not None:
        return done
    before, job = st.session_state.get(slot, (None, None))
    if job is None or (before != asked and not older):
        notices.notice(words.waiting, words.how, key=f"notice-{slot}")
        return None
    if job.running:
        _watch(slot, words)
        return None
    if job.cancelled:
        notices.notice("Cancelled", words.stopped, key=f"notice-{slot}")
        return None
    if isinstance(job.error, AbbieLensError):
        notices.notice(words.refused, str(job.error), key=f"notice-{slot}")
        return None
    if job.error is not None:
        raise job.error
    if before != asked:
        st.caption(f":material/history: {words.changed}")
    return job.result


@st.fragment(run_every=0.5)
def _watch(slot: str, words: Words) -> None:
    _, job = st.session_state[slot]
    if not job.running:
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(job.fraction, f"{words.doing}: {job.done} of {job.total or '…'} {words.steps}")
    right.button("Cancel", key=f"cancel-{slot}", on_click=cancel, args=(slot,),
                 icon=":material/stop:")  # fmt: skip
