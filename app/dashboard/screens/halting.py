"""Halting: where each token may stop, under one rule at one threshold, or two rules side by side."""

import streamlit as st

from app.view import exit_costs, figures, halting_study, page, plain, thresholds, timing
from app.view.sidebar import MAX_ITERS
from app.view.source import LiveSource
from probes import Halting, HaltingOutcome
from probes.early_exit import sentences

study = halting_study.held(page.source())
page.header(
    "When could each token have stopped?",
    "One run to depth r is replayed: a rule stops a token at the first iteration at which its value "
    "crosses the threshold τ."
    if study is None
    else "Rules judged over a corpus, each at several thresholds, beside one depth for all, its exits "
    "dealt at random, and the best exits there are.",
)
if study is not None:
    halting_study.show(page.source(), study)  # type: ignore[arg-type]
    st.stop()
halting: Halting = page.source().result("halting")  # type: ignore[assignment]
titles = {rule["name"]: rule["title"] for rule in halting.rules}


def chosen(label: str, name: str, key: str) -> HaltingOutcome:
    """The rule called `name` at the threshold of a slider."""
    rule, _ = halting.rule(name)
    threshold = st.select_slider(
        f"{label} ({rule['unit']})",
        thresholds.ladder(rule, MAX_ITERS),
        value=float(rule["threshold"]),
        format_func=thresholds.text,
        key=f"{key}_{name}",
        bind="query-params",
        help=f"The rule: {rule['formula']}",
    )
    return halting.at(name, threshold)


left, right = st.columns([1, 2], vertical_alignment="bottom")
name = left.selectbox(
    "Rule", list(titles), format_func=titles.get, key="rule", bind="query-params"
)  # fmt: skip
with right:
    outcome = chosen("Threshold τ", name, "threshold")
left, right = st.columns([1, 2], vertical_alignment="bottom")
second = left.selectbox(
    "Beside it", [other for other in titles if other != name], index=None, key="second_rule",
    format_func=titles.get, placeholder="no other rule", bind="query-params",
)  # fmt: skip
other = None
if second is not None:
    with right:
        other = chosen("Its threshold", second, "second_threshold")

main, beside = st.columns([3, 1])
with main:
    figures.show(outcome, "halting-text", height=560, view="text")
    st.markdown(plain.markdown(sentences.text(outcome)))
    if other is not None:
        figures.show(other, "halting-text-second", height=560, view="text")
        st.markdown(plain.markdown(sentences.both(outcome, other)))
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
with st.expander("The rule's value at every token and iteration"):
    figures.show(outcome, "halting", height=560, view="map")
with st.expander("Depth against quality, over all thresholds"):
    left, right = st.columns(2)
    metric = left.segmented_control(
        "Quality", ["agreement", "nll"], default="nll", required=True, key="quality",
        format_func={"agreement": "Agreement", "nll": "NLL (nats)"}.get,
        bind="query-params",
    )  # fmt: skip
    cost = exit_costs.of(page.source(), name, int(halting.valid.sum()))
    axes = ["flops", "steps"] if cost is not None else ["steps"]
    x = right.segmented_control(
        "Cost", axes, default=axes[0], required=True, key="cost", bind="query-params",
        format_func={"flops": "FLOPs", "steps": "Iterations"}.get,
    )  # fmt: skip
    sweep = halting.sweep(name, also=[outcome.threshold], flops=cost)
    figures.show(sweep, "halting-sweep", metric=metric, x=x, threshold=outcome.threshold)
    if cost is None:
        st.caption("FLOPs are counted where one of the package's own models runs here.")
    st.markdown(plain.markdown(f"{sentences.frontier(outcome)} {sentences.oracle(sweep, outcome)}"))
with st.expander("Which tokens stop when"):
    figures.show(outcome, "halting-classes", view="classes")
    st.markdown(plain.markdown(sentences.classes(outcome)))
    figures.show(outcome, "halting-histogram", view="histogram")
source = page.source()
if isinstance(source, LiveSource):
    with st.expander("Is it faster? Run it for real"):
        timing.panel(source, outcome)
with st.expander("Every token in numbers"):
    table = outcome.to_frame().drop(columns=["batch", "rule", "threshold"])
    table["token"] = [page.token(text) for text in table["token"]]
    st.dataframe(table, hide_index=True, height=320)
