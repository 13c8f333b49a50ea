"""Fitting probes from a page: one job a session, its progress, its cancel button, its results."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

import probes
from abbie_lens.bridged import Loop
from abbie_lens.errors import AbbieLensError
from app.view import notices, runs
from app.view.jobs import Job
from probes import LinearProbes

_BASELINES = {
    "majority": "most frequent class",
    "shuffled": "shuffled labels",
    "untrained": "untrained model",
    "embedding": "token embedding",
    "head_output": "h₀ (the Head alone)",
}


@dataclass(frozen=True)
class Request:
    """What one fit depends on."""

    model: str
    text: str | None
    label: str
    sites: tuple[str, ...]
    n_iters: int
    loop: Loop | None = None


def start(request: Request) -> None:
    """Begin fitting, after stopping what this session fitted before."""
    cancel()
    model = runs.model(request.model, request.loop)

    def work(progress: object) -> LinearProbes:
        return probes.linear(
            model, request.text, label=request.label, sites=request.sites,
            n_iters=request.n_iters, progress=progress,
        )  # fmt: skip

    st.session_state["probe_job"] = (request, Job(work))


def cancel() -> None:
    """Stop this session's fit, if one runs."""
    if job := st.session_state.get("probe_job"):
        job[1].cancel()


def outcome(request: Request) -> LinearProbes | None:
    """The fitted result of `request`; draws progress, or why there is none."""
    asked, job = st.session_state.get("probe_job", (None, None))
    if job is None:
        notices.notice(
            "Nothing fitted yet",
            "Choose what to look for and press “Fit the probes”. It takes from seconds to minutes; the "
            "other pages can be used meanwhile.",
        )
        return None
    if job.running:
        _watch()
        return None
    if job.cancelled:
        notices.notice("Cancelled", "The fit was stopped before it was done.")
        return None
    if isinstance(job.error, AbbieLensError):
        notices.notice("These probes cannot be fitted", str(job.error))
        return None
    if job.error is not None:
        raise job.error
    if asked != request:
        st.caption(
            ":material/history: Shown is the last fit; the choices above have changed since."
        )
    return job.result


@st.fragment(run_every=0.5)
def _watch() -> None:
    _, job = st.session_state["probe_job"]
    if not job.running:
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(job.fraction, f"Fitting: {job.done} of {job.total or '…'} steps")
    right.button("Cancel", key="probe_cancel", on_click=cancel, icon=":material/stop:")


def numbers(result: LinearProbes) -> None:
    """Last iteration of the first site and every baseline, as a small table."""
    table = summary(result)
    st.dataframe(
        table,
        hide_index=True,
        column_config={"accuracy": st.column_config.NumberColumn("accuracy", format="%.3f")},
    )
    train, test = result.n_documents
    st.caption(
        f"{len(result.classes)} classes; {train} documents to fit on, {test} to test on. "
        "Intervals: 95% bootstrap over test documents."
    )
    if result.dropped_classes:
        st.caption(f"Too rare to probe: {', '.join(result.dropped_classes)}.")
    if result.unfinished:
        st.caption(f"{result.unfinished} fits stopped at the solver's iteration limit.")


def summary(result: LinearProbes) -> pd.DataFrame:
    """Columns `condition`, `accuracy`: the last iteration of the first site, then the baselines.

    The last, not the best: choosing an iteration by its test accuracy would flatter the states.
    """
    last = max(0, int(result.rows[0]) - 1)
    rows = [(f"state at k = {last}", float(result.trained[0, last, 0]))]
    for name, title in _BASELINES.items():
        values = getattr(result, name)
        rows.append((title, float(values[0, last, 0] if values.ndim == 3 else values[0])))
    return pd.DataFrame(rows, columns=["condition", "accuracy"])
