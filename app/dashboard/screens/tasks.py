"""Tasks: do more iterations solve harder questions, and does a halting rule spend more of them there?"""

import streamlit as st

from abbie_lens import tasks
from app.settings import Settings
from app.trained import own_task
from app.view import examples, figures, notices, page, picker, runs, tasking, thresholds
from app.view.sidebar import MAX_ITERS
from app.view.source import LiveSource

VIEWS = {
    "grid": "Steps × iterations",
    "curves": "Against r",
    "exits": "Exit steps",
    "answers": "Examples",
}
DEPTHS = (1, 2, 4, 6, 8, 12, 16, 24, 32)

page.header(
    "Do more iterations solve harder questions?",
    "Questions whose number of steps is known. The model is the sidebar's; its prompt and r play no part here.",
)
source = page.source()
if not isinstance(source, LiveSource):
    notices.notice("A bundle has no model to ask", "Close the bundle to measure a model on a task.")
    st.stop()
runs.model(source.model, source.loop)  # a folder that is no model is said before anything is chosen
own, names = own_task(source.model), list(tasks.TASKS)
if own is None:
    fitting = tasking.task_models(picker.names(Settings.from_env()))
    notices.notice(
        "This model was not trained on a task",
        (f"Of the models in the sidebar, these were: {', '.join(fitting)}.\n\n" if fitting else "")
        + "A task has a vocabulary of its own, so it takes a model trained on it. Train a small one in "
        f"minutes with\n\n    {tasking.TRAIN}\n\nand open it with abbie-lens app --model FOLDER, where "
        "FOLDER is the one that the command prints at its end. Models of your own can be measured too if "
        "their tokenizer numbers the task's words as the task does.",
        key="task-notice",
    )  # fmt: skip
first, second, third, fourth, fifth = st.columns([2, 3, 2, 2, 1.4], vertical_alignment="bottom")
name = first.selectbox(
    "Task", names, index=names.index(own.name if own else names[0]), bind="query-params",
    key=f"task_of_{own.name}" if own else "task",  # another model begins with its own
    help="Of the model's own task, the settings it was trained with; of another, the usual ones.",
)  # fmt: skip
task = tasking.offered(name, own)
low, high = task.test_difficulty
difficulty = (low, high)
if task.hardest > 1:
    difficulty = second.slider(
        "Steps that an answer needs", 1, task.hardest, (low, high), key=f"difficulty_{name}_{task.hardest}",
        bind="query-params", help=f"One step is {task.steps}.",
    )  # fmt: skip
most = runs.deepest(source.model, source.loop) or MAX_ITERS
depths = [r for r in DEPTHS if r <= most] or [most]
n_iters = third.selectbox(
    "Iterations up to", depths, index=depths.index(max(r for r in depths if r <= 8)), key="task_r",
    bind="query-params",
)  # fmt: skip
n_answers = fourth.selectbox(
    "Answers a difficulty", [50, 200, 500], index=1, key="task_n", bind="query-params"
)
asked = tasking.request(source, task, difficulty, n_iters, n_answers)
fifth.button("Measure", type="primary", icon=":material/play_arrow:", key="task_start",
             on_click=tasking.start, args=(asked,), width="stretch")  # fmt: skip
st.caption(
    f"{task.asks[:1].upper()}{task.asks[1:]}; one step is {task.steps}. Chance {task.chance:.3f}."
)

result = tasking.outcome(asked)
if result is None:
    st.stop()
view = st.segmented_control(
    "View", list(VIEWS), default="grid", required=True, format_func=VIEWS.get, key="task_view",
    bind="query-params", label_visibility="collapsed",
)  # fmt: skip
if view == "answers":
    examples.show(result)
    st.stop()
if view != "exits":
    figures.show(result, f"task-{view}", height=620, view=view)
    st.stop()

titles = {rule["name"]: rule["title"] for rule in result.replay.rules}
left, right = st.columns([1, 2], vertical_alignment="bottom")
rule_name = left.selectbox(
    "Rule", list(titles), index=list(titles).index("kl"), format_func=titles.get, key="task_rule",
    bind="query-params",
)  # fmt: skip
rule, _ = result.replay.rule(rule_name)
with right:
    threshold = st.select_slider(
        f"Threshold τ ({rule['unit']})", thresholds.ladder(rule, MAX_ITERS),
        value=float(rule["threshold"]), format_func=thresholds.text,
        key=f"task_threshold_{rule_name}", bind="query-params", help=f"The rule: {rule['formula']}",
    )  # fmt: skip
exits = result.exits(rule_name, threshold)
main, beside = st.columns([3, 1])
with main:
    figures.show(exits, "task-exits", height=560)
with beside:
    rho = exits.correlation
    st.metric(
        "Exit step and needed steps (ρ)", "undefined" if rho[0] != rho[0] else f"{rho[0]:+.2f}",
        help="Spearman's rank correlation over answers; undefined where all stop at one depth.",
    )  # fmt: skip
    st.metric("Iterations per answer", f"{exits.exit_step.mean():.2f} of {exits.n_iters}")
    st.metric("Right at the exit", f"{exits.right.mean():.0%}")
    st.caption(f"{int((~exits.fired).sum())} of {len(exits.fired)} answers never stop.")
