"""Compare: all models at a glance, several models on one prompt, or one model on two prompts."""

import streamlit as st

from abbie_lens import halting
from app.settings import Settings
from app.view import board, comparing, figures, notices, page, sidebar
from app.view.source import LiveSource
from probes import leaderboard

WHAT = {"all": "All models", "models": "Models on this prompt", "prompts": "Two prompts"}

page.header(
    "What differs between models, or between prompts?",
    "Every curve has the iteration on its horizontal axis; one model has one colour, dash and marker.",
)
names = sidebar.model_names(Settings.from_env())
called = sidebar.labels(names)
first, second, third = st.columns([3, 4, 2], vertical_alignment="bottom")
what = first.segmented_control(
    "Compare", list(WHAT), default="all", required=True, key="compare", format_func=WHAT.get,
    bind="query-params",
)  # fmt: skip

if what == "all":
    models = board.described(names)
    on_text = [m for m in models if m.metrics.get("evaluation")]
    on_task = [m for m in models if m.metrics.get("accuracy")]
    kinds = {"text": on_text, "task": on_task}
    there = [kind for kind, found in kinds.items() if found]
    measured = there[0] if there else None
    if len(there) == 2:
        measured = second.segmented_control(
            "Measured on", there, default="text", required=True, key="measured",
            format_func={"text": "Text: NLL", "task": "Tasks: accuracy"}.get, bind="query-params",
        )  # fmt: skip
    if measured is None:
        notices.notice(
            "No model has measurements",
            "A training run writes them at its end (evaluation.json, or accuracy.json for a task).",
        )
    else:
        chart = leaderboard.heldout if measured == "text" else leaderboard.accuracies
        figures.show(chart(kinds[measured]), f"leaderboard-{measured}", height=470)
    if models:
        board.show(models)
        st.caption(
            "From the models' own files. Click a column's head to sort by it. An empty cell was not "
            "measured, or the model refuses that depth; a sparkline ends there."
        )
    st.stop()

source = page.source()
if not isinstance(source, LiveSource):
    notices.notice("A bundle has one model and one prompt", "Close the bundle to compare models.")
    st.stop()
look = third.selectbox(
    "Figure", list(comparing.TITLES), format_func=comparing.TITLES.get, key="look",
    bind="query-params",
)  # fmt: skip
if what == "models":
    others = [name for name in names if name != source.model]
    chosen = second.multiselect(
        "Beside the sidebar's model", others, default=others[:1], key="beside",
        format_func=called.get, max_selections=comparing.MOST - 1, bind="query-params",
    )  # fmt: skip
    runs = comparing.of_models({name: called[name] for name in [source.model, *chosen]}, source)
    shallow = [name for name, run in runs if run.n_iters < source.n_iters]
    if shallow:
        st.caption(f"Shown as deep as they go, not to r = {source.n_iters}: {', '.join(shallow)}.")
else:
    text = second.text_input(
        "The other prompt", comparing.PROMPT, key="prompt_b", bind="query-params"
    )
    other = LiveSource(source.model, text or "", source.n_iters)
    runs = [(source.text, source), (text or "", other)]
rule = "kl"
if look == "frontier":
    rule = st.selectbox(
        "Rule", list(halting.RULES), index=list(halting.RULES).index("kl"), key="compare_rule",
        format_func=lambda name: halting.policy(name).describe()["title"], bind="query-params",
    )  # fmt: skip
comparing.show(runs, look, rule)
