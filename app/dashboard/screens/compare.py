"""Compare: all models at a glance, several models on one prompt, or one model on two prompts."""

import streamlit as st

from abbie_lens import halting
from app import trained
from app.settings import Settings
from app.view import board, comparing, figures, notices, page, picker, plain, prompts
from app.view.source import LiveSource
from probes import leaderboard

WHAT = {"all": "All models", "models": "Several on this prompt", "prompts": "Two prompts"}

page.header(
    "What differs between models, or between prompts?",
    "Every curve has the iteration on its horizontal axis; one model has one colour, dash and marker.",
)
names = picker.names(Settings.from_env())
called = picker.labels(names)
models = trained.described(called)
what = st.segmented_control(
    "Compare", list(WHAT), default="all", required=True, key="compare", format_func=WHAT.get,
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip

if what == "all":
    there = [measure for measure in board.MEASURES if board.measured(models, measure)]
    if not there:
        notices.notice(
            "No model has measurements",
            "A training run writes them at its end (evaluation.json, or accuracy.json for a task).",
        )
        st.stop()
    measure = there[0]
    if len(there) > 1:
        measure = st.segmented_control(
            "Measured on", there, default=there[0], required=True, key="measured",
            format_func=lambda name: board.MEASURES[name][0], bind="query-params",
            label_visibility="collapsed",
        )  # fmt: skip
    chosen = board.measured(models, measure)
    chart = leaderboard.heldout if measure == "text" else leaderboard.accuracies
    figures.show(chart(chosen), f"leaderboard-{measure}", height=560)
    board.show(chosen, measure)
    others = ", ".join(model.name for model in models if not any(
        model in board.measured(models, one) for one in board.MEASURES
    ))  # fmt: skip
    st.caption(
        "From the models' own files. Click a column's head to sort. None: not measured at that depth, or "
        "refused by the model; a sparkline ends there."
        + (f" Without measurements: {plain.markdown(others)}." if others else "")
    )
    st.stop()

source = page.source()
if not isinstance(source, LiveSource):
    notices.notice("A bundle has one model and one prompt", "Close the bundle to compare models.")
    st.stop()
second, third = st.columns([3, 2], vertical_alignment="bottom")
look = third.selectbox(
    "Figure", list(comparing.TITLES), format_func=comparing.TITLES.get, key="look",
    bind="query-params",
)  # fmt: skip
if what == "models":
    others = comparing.alike(source.model, names, called)
    chosen = second.multiselect(
        "Beside the sidebar's model", others, default=others[:1], key="beside",
        format_func=called.get, max_selections=comparing.MOST - 1, bind="query-params",
    )  # fmt: skip
    runs = comparing.of_models({name: called[name] for name in [source.model, *chosen]}, source)
    shallow = [name for name, run in runs if run.n_iters < source.n_iters]
    if shallow:
        st.caption(
            f"Shown as deep as they go, not to r = {source.n_iters}: {plain.markdown(', '.join(shallow))}."
        )
else:
    prompt = prompts.usual(source.model, 1)
    prompts.follow("prompt_b", prompt)
    text = second.text_input("The other prompt", prompt, key="prompt_b", bind="query-params")
    other = LiveSource(source.model, text or "", source.n_iters, source.loop)
    runs = [(source.text, source), (text or "", other)]
rule = "kl"
if look == "frontier":
    offered = comparing.rules(runs)
    rule = st.selectbox(
        "Rule", offered, index=offered.index("kl"), key="compare_rule",
        format_func=lambda name: halting.policy(name).describe()["title"], bind="query-params",
    )  # fmt: skip
comparing.show(runs, look, rule)
