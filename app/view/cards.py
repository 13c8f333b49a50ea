"""The Overview's row of numbers: settling, distances, halting, loss."""

from __future__ import annotations

import math

import streamlit as st

from app import summary
from probes import FixedPoint, Halting, Lens

RULE = "kl"


def row(lens: Lens, fixed: FixedPoint, halting: Halting) -> None:
    """One card for each question the pages answer in full."""
    first, second, third, fourth = st.columns(4)
    with first.container(border=True, height="stretch"):
        _verdict(fixed)
    with second.container(border=True, height="stretch"):
        _distances(fixed)
    with third.container(border=True, height="stretch"):
        _exits(halting)
    with fourth.container(border=True, height="stretch"):
        _loss(lens)


def _verdict(fixed: FixedPoint) -> None:
    verdicts = summary.fixed_point(fixed)["verdicts"]
    trained = verdicts["trained"]
    n_tokens = sum(trained.values())
    most = max(trained, key=lambda verdict: trained[verdict]) if trained else "undefined"
    st.metric("Most tokens", most, help="What the direction of the state does; see Fixed points.")
    st.caption(f"{_counts(trained)} of {n_tokens}; random weights: {_counts(verdicts['random'])}")


def _distances(fixed: FixedPoint) -> None:
    steps = summary.fixed_point(fixed)["last_step"]
    st.metric(
        "Last step, direction",
        _number(steps["direction"]["trained"]),
        help="Median over tokens of ‖u(h_r) − u(h_{r−1})‖, u(x) = x/‖x‖. In small print: the other "
        "distances, and the same for random weights.",
    )
    st.caption(
        "; ".join(
            f"{metric} {_number(run['trained'])} (random {_number(run['random'])})"
            for metric, run in steps.items()
        )
    )


def _exits(halting: Halting) -> None:
    outcome = halting.at(RULE)
    st.metric(
        "Mean exit step, KL rule",
        f"{outcome.mean_steps:.1f} of {halting.n_iters}",
        help=f"{outcome.rule['formula']}, τ = {outcome.threshold:g}; see Halting.",
    )
    st.caption(
        f"{outcome.agreement:.0%} of tokens keep the top token of full depth; "
        f"{outcome.n_never_fired} never stop"
    )


def _loss(lens: Lens) -> None:
    nll = summary.nll(lens)
    trained = min(lens.model.trained_n_iters, lens.n_iters)
    st.metric(
        f"NLL of the prompt at r = {lens.n_iters}",
        _number(nll[-1]),
        help="Mean negative log-likelihood of the prompt's own next tokens, in nats; lower is better.",
    )
    shown = sorted({0, 1, trained, 4, 8} & set(range(lens.n_iters)))
    st.caption(", ".join(f"k={k} {_number(nll[k])}" for k in shown) or "one iteration only")


def _counts(verdicts: dict[str, int]) -> str:
    return ", ".join(f"{n} {verdict}" for verdict, n in verdicts.items())


def _number(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "undefined"
