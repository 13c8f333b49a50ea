"""Tasks: measured beside the page, the numbers those of the analysis, and explained where no model fits."""

import json

import pytest

import probes
from abbie_lens import load, tasks
from app.view import prompts, tasking

from .test_pages import PAGES, assert_calm, figures, texts, titles

QUERY = {"task_r": "2", "task_n": "50"}


@pytest.fixture
def tasks_page(dashboard, task_model_folder):
    def start(**query):
        return dashboard("tasks.py", models=(str(task_model_folder),), query=QUERY | query)

    return start


def measure(at):
    at.button(key="task_start").click().run()
    at.session_state["task_job"][1].wait(60)
    return at.run()


def test_the_grid_is_the_analysis_of_the_models_own_task(tasks_page, task_model_folder):
    at = tasks_page()
    assert_calm(at)
    assert at.main.selectbox[0].value == "k-hop" and not at.get("plotly_chart")
    at = measure(at)
    assert_calm(at)
    task = tasking.own_task(str(task_model_folder))
    assert task == tasks.make(
        "k-hop", n_nodes=6, n_ctx=40, train_difficulty=(1, 2), test_difficulty=(1, 3)
    )
    alone = probes.task_depth(load(task_model_folder), task, 2, (1, 3), n_answers=50)
    (figure,) = figures(at)
    hovers = next(t for t in figure["data"] if t["type"] == "heatmap")["customdata"]
    assert f"accuracy {alone.accuracy[1, 0]:.3f}" in hovers[1][0]
    assert f"{alone.n[0]} answers" in hovers[1][0]


def test_a_run_is_kept_for_the_next_visitor(tasks_page, monkeypatch):
    measure(tasks_page())
    monkeypatch.setattr(probes, "task_depth", lambda *a, **k: pytest.fail("it ran again"))
    assert len(figures(tasks_page())) == 1
    assert "Nothing measured" in texts(tasks_page(task_n="200"))


def test_rule_and_threshold_move_the_exits_without_running(tasks_page, monkeypatch):
    measure(tasks_page())
    monkeypatch.setattr(probes, "task_depth", lambda *a, **k: pytest.fail("it ran again"))
    at = tasks_page(task_view="Exit steps", task_rule="Fixed depth", task_threshold_fixed_k="1")
    assert_calm(at)
    shown = {metric.label: metric.value for metric in at.metric}
    assert shown["Iterations per answer"] == "1.00 of 2"
    assert shown["Exit step and needed steps (ρ)"] == "undefined"
    at.main.select_slider(key="task_threshold_fixed_k").set_value(2.0).run()
    assert {m.label: m.value for m in at.metric}["Iterations per answer"] == "2.00 of 2"


def test_examples_mark_the_answers(tasks_page):
    measure(tasks_page())
    at = tasks_page(task_view="Examples", task_row="2")
    assert_calm(at)
    row = at.main.code[0].value
    assert row.count("⟦") >= 1 and row.startswith("<|endoftext|>")
    cells = next(t for t in figures(at)[0]["data"] if t["type"] == "heatmap")
    n_answers = row.count("⟦")
    assert json.loads(json.dumps(cells["text"])) and len(cells["text"][0]) == n_answers
    assert titles(at) == ["The model's answers after k iterations"]


def test_a_model_of_text_is_told_how_to_get_one_of_a_task(
    dashboard, model_folders, task_model_folder
):
    at = dashboard("tasks.py", models=(str(model_folders[0]), str(task_model_folder)))
    assert not at.exception
    assert "not trained on a task" in texts(at) and tasking.TRAIN in texts(at)
    assert "these were: tiny-k-hop" in texts(at)
    at = measure(at)
    assert not at.exception
    assert "cannot be measured" in texts(at) and "tokenizer" in texts(at)


def test_the_command_that_the_page_gives_is_one(command):
    arguments = tasking.TRAIN.split()[1:]
    assert command(*arguments, "--help")[0] == 0
    assert arguments[2] in tasks.TASKS


def test_a_cancelled_run_says_so(tasks_page, monkeypatch):
    from app.view.jobs import Job

    real = Job.__init__

    def stopped(job, work):
        real(job, lambda progress: (job.cancel(), work(progress))[1])

    monkeypatch.setattr(Job, "__init__", stopped)
    at = measure(tasks_page(task_n="500"))
    assert not at.exception and "The run was stopped" in texts(at)


def test_every_page_opens_a_model_of_a_task_on_a_row_of_it(dashboard, task_model_folder):
    at = dashboard(
        "overview.py", models=(str(task_model_folder),), query={"prompt": None, "r": "2"}
    )
    task = prompts.own_task(str(task_model_folder))
    asked = at.sidebar.text_area(key="prompt").value
    assert asked == task.text(task.sample(0, 1, split="test").tokens[0])
    for page in PAGES:
        at.switch_page(f"screens/{page}.py").run()
        assert_calm(at)
    assert at.sidebar.text_area(key="prompt").value == asked


def test_the_usual_prompt_follows_the_model_and_a_typed_one_stays(
    dashboard, model_folders, task_model_folder
):
    both = (str(model_folders[0]), str(task_model_folder))
    at = dashboard("lens.py", models=both, query={"prompt": None, "r": "2"})
    prompt = lambda: at.sidebar.text_area(key="prompt")  # noqa: E731
    assert prompt().value == prompts.PROSE[0]
    at.sidebar.selectbox(key="model").set_value(both[1]).run()
    assert_calm(at)
    assert prompt().value == prompts.usual(both[1]) != prompts.PROSE[0]
    at.sidebar.selectbox(key="model").set_value(both[0]).run()
    assert prompt().value == prompts.PROSE[0]
    prompt().set_value("a > b ;").run()
    at.sidebar.selectbox(key="model").set_value(both[1]).run()
    assert_calm(at)
    assert prompt().value == "a > b ;"


def test_two_prompts_of_a_task_are_two_rows_of_it(dashboard, task_model_folder):
    query = {"prompt": None, "compare": "Two prompts", "r": "2"}
    at = dashboard("compare.py", models=(str(task_model_folder),), query=query)
    assert_calm(at)
    other = at.main.text_input(key="prompt_b").value
    assert other == prompts.usual(str(task_model_folder), 1)
    assert other != at.sidebar.text_area(key="prompt").value
