"""Fitting probes from a page: one job a session, its progress, its cancel button, its results."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd
import streamlit as st

import probes
from abbie_lens.bridged import Loop
from app.view import plain, runs, work
from app.view.labels import Choice
from probes import LinearProbes

SLOT = "probe_job"
WORDS = work.Words(
    waiting="Nothing fitted yet",
    how="Choose what to look for and press “Fit the probes”. It takes from seconds to minutes; the "
    "other pages can be used meanwhile.",
    doing="Fitting",
    steps="steps",
    stopped="The fit was stopped before it was done.",
    refused="These probes cannot be fitted",
    changed="Shown is the last fit; the choices above have changed since.",
)

_BASELINES = {
    "majority": "most frequent class",
    "shuffled": "shuffled labels",
    "control": "control task",
    "untrained": "untrained model",
    "embedding": "token embedding",
    "head_output": "h₀ (the Head alone)",
}


@dataclass(frozen=True)
class Request:
    """What one fit depends on."""

    model: str
    text: str | None
    choice: Choice
    sites: tuple[str, ...]
    n_iters: int
    loop: Loop | None = None


def start(request: Request) -> None:
    """Begin fitting, after stopping what this session fitted before."""
    model = runs.model(request.model, request.loop)

    def fit(progress: object) -> LinearProbes:
        return probes.linear(
            model, request.text, label=request.choice.label, sites=request.sites,
            n_iters=request.n_iters, progress=progress,
        )  # fmt: skip

    work.start(SLOT, request, fit)


def outcome(request: Request) -> LinearProbes | None:
    """The fitted result of `request`; draws progress, or why there is none."""
    return work.outcome(SLOT, request, WORDS)


def numbers(result: LinearProbes, site: str) -> None:
    """Last iteration of a site and every baseline, as a small table."""
    table = summary(result, site)
    name = table.columns[1]
    st.dataframe(
        table,
        hide_index=True,
        column_config={name: st.column_config.NumberColumn(name, format="%.3f")},
    )
    train, held, test = result.n_documents
    classes = f"{len(result.classes)} classes; " if result.kind == "classes" else ""
    st.caption(
        f"{classes}{train} documents to fit on, {held} to choose the penalty "
        f"on, {test} to test on. "
        "Intervals: 95% bootstrap over test documents."
    )
    if result.dropped_classes:
        st.caption(f"Too rare to probe: {plain.markdown(', '.join(result.dropped_classes))}.")
    if result.unfinished:
        st.caption(f"{result.unfinished} fits stopped before the solver was done.")


def summary(result: LinearProbes, site: str | None = None) -> pd.DataFrame:
    """Columns `condition`, `accuracy` (`R²` of numbers): the last iteration of a site (the first if None), then the baselines.

    The last, not the best: choosing an iteration by its test accuracy would flatter the states.
    """
    s = 0 if site is None else result.sites.index(site)
    last = max(0, int(result.rows[s]) - 1)
    rows = [(f"state at k = {last}", float(result.trained[s, last, 0]))]
    for name, title in _BASELINES.items():
        values = getattr(result, name)
        if name == "majority" and result.kind == "regression":
            title = "training mean"
        rows.append((title, float(values[s, last, 0] if values.ndim == 3 else values[0])))
    score = "R²" if result.kind == "regression" else "accuracy"
    return pd.DataFrame(rows, columns=["condition", score])
