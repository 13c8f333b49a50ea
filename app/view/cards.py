"""The Overview's row of numbers: settling, distances, halting, loss."""

from __future__ import annotations

import math

import streamlit as st

from app import summary
from probes import FixedPoint, Halting, Lens

RULE = "kl"


def row(lens: Lens, fixed: FixedPoint, halting: Halting) -> None:
    """One card for each question the pages answer in full."""
    first, second, third, fourth = st.columns([3, 5.6, 3, 3])
    with first.container(border=True, height="stretch"):
        _verdict(fixed)
    with second.container(border=True, height="stretch", key="distances"):
        _distances(fixed)
    with third.container(border=True, height="stretch"):
        _exits(halting)
    with fourth.container(border=True, height="stretch"):
        _loss(lens)


def _verdict(fixed: FixedPoint) -> None:
    verdicts = summary.fixed_point(fixed)["verdicts"]
    trained = verdicts["trained"]
    # A metric's value is cut where a heading wraps.
    st.caption(
        "Most states",
        help="What the direction of the state does over the iterations; see Dynamics.",
    )
    most = max(trained, key=lambda verdict: trained[verdict]) if trained else "undefined"
    st.markdown(f"#### {most}")
    control = f" · random weights: {_counts(verdicts['random'])}" if "random" in verdicts else ""
    st.caption(_counts(trained) + control)


def _distances(fixed: FixedPoint) -> None:
    steps = summary.fixed_point(fixed)["last_step"]
    st.caption(
        "The last step, median over tokens",
        help="‖h_r − h_{r−1}‖ raw, relative to ‖h_{r−1}‖, between directions, and after the final "
        "norm; see Dynamics.",
    )
    runs = list(next(iter(steps.values())))
    with st.container(horizontal=True, wrap=False, gap="xsmall"):
        st.caption("  \n".join(["**weights**", *runs]), width="content")
        for metric, step in steps.items():
            values = [f"{step[run]:.2g}" for run in runs]
            st.caption("  \n".join([f"**{metric}**", *values]), width="content")


def _exits(halting: Halting) -> None:
    outcome = halting.at(RULE)
    st.metric(
        "Exit step, KL rule",
        f"{outcome.mean_steps:.1f} of {halting.n_iters}",
        help=f"Mean over tokens; {outcome.rule['formula']}, τ = {outcome.threshold:g}; see Halting.",
    )
    st.caption(f"{outcome.agreement:.0%} keep the top token of full depth")


def _loss(lens: Lens) -> None:
    nll = summary.nll(lens)
    st.metric(
        f"NLL at r = {lens.n_iters}",
        _number(nll[-1]),
        help="Mean negative log-likelihood in nats of the prompt's own next tokens; lower is better.",
    )
    shown = sorted({0, 2, 4, 8} & set(range(lens.n_iters)))
    st.caption(" · ".join(f"k={k}\u00a0{_number(nll[k])}" for k in shown) or "one iteration only")


def _counts(verdicts: dict[str, int]) -> str:
    total = sum(verdicts.values())
    return ", ".join(f"{verdict} {n}/{total}" for verdict, n in verdicts.items())


def _number(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "undefined"
