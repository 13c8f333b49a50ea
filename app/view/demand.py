"""Results that take more than two seconds: run when asked for, beside the page, with progress and cancel, and kept."""

from __future__ import annotations

from typing import Any

import streamlit as st

from abbie_lens.errors import AbbieLensError, InputError
from app import exporting
from app.view import runs, work
from app.view.source import LiveSource, Source
from probes import Result


def result(kind: str, source: Source, side: int = 0, **options: Any) -> Result | None:
    """The result, saved, kept, or fresh; else what to press, the progress, or why there is none.

    `options` of the analysis, other than its own defaults.
    """
    if not isinstance(source, LiveSource):
        return source.result(kind, **options)
    if not source.text.strip():
        raise InputError("The prompt is empty: type some text in the sidebar.")
    key, slot = _key(kind, source, options), f"{kind}_job_{side}"
    asked = (source, tuple(sorted(options.items())))
    if work.known(key) is None and not _running(slot):
        st.button(
            "Compute", key=f"compute-{slot}", type="primary", icon=":material/play_arrow:",
            on_click=_start, args=(kind, source, slot, options),
        )  # fmt: skip
    title = exporting.TITLES.get(kind, kind)
    words = work.Words(
        waiting="Not computed yet",
        how="Press “Compute”. It takes seconds for a small model, minutes for a large one or a long prompt; "
        "the other pages can be used meanwhile.",
        doing=f"Computing {title}",
        steps="steps",
        stopped="It was stopped before it was done.",
        refused="This cannot be computed",
        changed="",
    )
    return work.outcome(slot, asked, words, key, older=False)


def finished(source: Source) -> dict[str, Result]:
    """The costly results of this source that are there already, by kind."""
    if not isinstance(source, LiveSource):
        return {}
    found = {kind: work.known(_key(kind, source)) for kind in exporting.COSTLY}
    return {kind: result for kind, result in found.items() if result is not None}


def _start(kind: str, source: LiveSource, slot: str, options: dict[str, Any]) -> None:
    def compute(progress: Any) -> Result:
        model = runs.model(source.model, source.loop)
        return exporting.run(kind, model, source.text, source.n_iters, progress=progress, **options)

    asked = (source, tuple(sorted(options.items())))
    work.start(slot, asked, compute, _key(kind, source, options))


def _running(slot: str) -> bool:
    job = st.session_state.get(slot)
    return job is not None and job[1].running


def _key(
    kind: str, source: LiveSource, options: dict[str, Any] | None = None
) -> tuple[Any, ...] | None:
    """A checkpoint written anew under the same name is another model; None for one that cannot be loaded."""
    try:
        checkpoint = runs.checkpoint(source.model, source.loop)
    except AbbieLensError:
        return None
    return (kind, source, checkpoint, *sorted((options or {}).items()))
