"""Halting: where each token may stop, under one rule at one threshold."""

import streamlit as st

from app.view import figures, page, thresholds
from app.view.sidebar import MAX_ITERS
from probes import Halting

page.header(
    "When could each token have stopped?",
    "One run to depth r is replayed: a rule stops a token at the first iteration at which its value "
    "crosses the threshold τ.",
)
halting: Halting = page.source().result("halting")  # type: ignore[assignment]
titles = {rule["name"]: rule["title"] for rule in halting.rules}

left, right = st.columns([1, 2], vertical_alignment="bottom")
name = left.selectbox(
    "Rule", list(titles), format_func=titles.get, key="rule", bind="query-params"
)  # fmt: skip
rule, _ = halting.rule(name)
with right:
    threshold = st.select_slider(
        f"Threshold τ ({rule['unit']})",
        thresholds.ladder(rule, MAX_ITERS),
        value=float(rule["threshold"]),
        format_func=thresholds.text,
        key=f"threshold_{name}",
        bind="query-params",
        help=f"The rule: {rule['formula']}",
    )
outcome = halting.at(name, threshold)

main, beside = st.columns([3, 1])
with main:
    figures.show(outcome, "halting", height=560, view="map")
with beside:
    st.metric(
        "Iterations per token", f"{outcome.mean_steps:.2f} of {halting.n_iters}",
        help="Mean exit step; tokens on which the rule never fires run to r.",
    )  # fmt: skip
    st.metric(
        "Same top token as at full depth", f"{outcome.agreement:.0%}",
        help=f"With the same mean depth: {outcome.fixed_agreement:.0%} if all tokens stop at one depth, "
        f"{outcome.random_agreement:.0%} ± {outcome.random_agreement_sd:.0%} if the exits are dealt at random.",
    )  # fmt: skip
    st.metric(
        "NLL at exit (nats)", f"{outcome.mean_nll_exit:.3f}",
        delta=f"{outcome.mean_nll_exit - outcome.mean_nll_full:+.3f} against full depth",
        delta_color="off", delta_arrow="off",
        help="Mean negative log-likelihood of the prompt's own next tokens; lower is better.",
    )  # fmt: skip
    st.caption(
        f"{outcome.n_never_fired} of {int((outcome.exit_step >= 0).sum())} tokens never stop; "
        f"{outcome.n_diverged} diverged."
    )
with st.expander("Depth against quality, over all thresholds"):
    metric = st.segmented_control(
        "Quality", ["agreement", "nll"], default="agreement", required=True, key="quality",
        format_func={"agreement": "Agreement with full depth", "nll": "NLL (nats)"}.get,
        bind="query-params",
    )  # fmt: skip
    sweep = halting.sweep(name, also=[threshold])
    figures.show(sweep, "halting-sweep", metric=metric, threshold=threshold)
with st.expander("How many tokens stop at each iteration"):
    figures.show(outcome, "halting-histogram", view="histogram")
with st.expander("Every token in numbers"):
    table = outcome.to_frame().drop(columns=["batch", "rule", "threshold"])
    table["token"] = [page.token(text) for text in table["token"]]
    st.dataframe(table, hide_index=True, height=320)
