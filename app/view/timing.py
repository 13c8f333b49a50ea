"""A halting rule run for real from a page: one job a session, its speed beside what FLOPs predict."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

import probes
from abbie_lens import halting
from abbie_lens.kv_store import RULES as KV_RULES
from app.view import figures, plain, runs, work
from app.view.source import LiveSource
from probes import HaltingOutcome, LiveRun
from probes.progress import Callback

SLOT = "live_job"
WORDS = work.Words(
    waiting="Not run yet",
    how="Press “Run it live”: the rule runs on copies of the prompt, tokens that stop are not computed, and both runs are timed.",
    doing="Timing",
    steps="runs",
    stopped="The run was stopped before it was done.",
    refused="This cannot be run live",
    changed="Shown is the last run; the choices above have changed since.",
)


@dataclass(frozen=True)
class Asked:
    """What a live run depends on."""

    source: LiveSource
    rule: str
    threshold: float
    kv: str


def panel(source: LiveSource, outcome: HaltingOutcome) -> None:
    """Choice of keys, the button, and what was measured."""
    left, right = st.columns([1, 2], vertical_alignment="bottom")
    kv = left.selectbox(
        "Keys that halted tokens serve", [name for name in KV_RULES if "(" not in name],
        key="live_kv", bind="query-params",
    )  # fmt: skip
    asked = Asked(source, outcome.rule["name"], outcome.threshold, kv)
    right.button(
        "Run it live", key="live", type="primary", icon=":material/timer:", on_click=start,
        args=(asked,),
    )  # fmt: skip
    result = work.outcome(SLOT, asked, WORDS)
    if result is not None:
        st.markdown(plain.markdown(result.sentence()))
        figures.show(result, "halting-live")


def start(asked: Asked) -> None:
    """Begin the run, after stopping what this session ran before."""
    source = asked.source

    def run(progress: Callback) -> LiveRun:
        model = runs.model(source.model, source.loop)
        policy = halting.policy(asked.rule, threshold=asked.threshold)
        return probes.live_run(
            model, source.text, source.n_iters, policy, kv=asked.kv, progress=progress
        )

    work.start(SLOT, asked, run)
