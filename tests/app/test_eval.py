"""`abbie-lens eval`: what goes to stdout, files, exit codes."""

import json
import sys

import pytest

from abbie_lens import zoo


@pytest.fixture
def evaluate(command, model_folders, task_folder):
    """`evaluate(*arguments)`: the command on a tiny model and the local pairs."""

    def run(*arguments, tasks="minimal_pairs", n_iters="1,3"):
        return command(
            "eval", str(model_folders[0]), "--tasks", tasks, "--include-path", str(task_folder),
            "--n-iters", n_iters, *arguments,
        )  # fmt: skip

    return run


def test_the_table_has_a_column_for_each_depth(evaluate):
    code, out, err = evaluate("--limit", "5")
    assert code == 0, err
    header = next(line for line in out.splitlines() if "task" in line)
    assert header.split() == ["task", "metric", "documents", "chance", "r=1", "r=3"]
    row = next(line for line in out.splitlines() if "acc ↑" in line)
    assert row.split()[:5] == ["minimal_pairs", "acc", "↑", "5", "0.500"]
    assert out.splitlines()[out.splitlines().index(row) + 1].count("[") == 2
    assert "95% interval; Wilson over documents" in out
    assert "r = 1: 10 of 10 requests" in err and "r = 3: 10 of 10 requests" in err


def test_json_is_alone_on_stdout_and_agrees_with_the_library(evaluate, model_folders, task_folder):
    import probes
    from abbie_lens import load

    code, out, err = evaluate("--limit", "5", "--json")
    assert code == 0, err
    told = json.loads(out)
    expected = probes.eval_scores(
        load(model_folders[0]), ["minimal_pairs"], [1, 3], include_path=task_folder, limit=5
    )
    assert [s["value"] for s in told["scores"]] == expected.to_frame().value.tolist()
    assert [d["n_iters"] for d in told["depths"]] == [1, 3]
    assert told["model"]["weight_hash"] == expected.model.weight_hash


def test_files_are_written_continued_and_not_replaced(evaluate, tmp_path):
    out_file, figure = tmp_path / "scores.json", tmp_path / "scores.html"
    files = ["--limit", "4", "--out", str(out_file)]
    code, _, err = evaluate(*files, "--figure", str(figure))
    assert code == 0, err
    assert "plotly" in figure.read_text().lower()
    code, out, err = evaluate(*files)
    assert (code, out) == (1, "") and "exists" in err
    code, out, err = evaluate(*files, "--resume", "--json", n_iters="1,3,5")
    assert code == 0, err
    assert [d["n_iters"] for d in json.loads(out)["depths"]] == [1, 3, 5]
    code, out, err = evaluate("--limit", "5", "--out", str(out_file), "--resume")
    assert (code, out) == (2, "") and "limit" in err
    code, _, err = evaluate("--figure", str(figure))
    assert code == 1 and "--figure" in err


@pytest.mark.parametrize(
    ("arguments", "changes", "said"),
    [
        ([], {"n_iters": "1,x"}, "1,x"),
        ([], {"n_iters": "-1"}, "--n-iters"),
        (["--resume"], {}, "--out"),
        (["--limit", "0"], {}, "--limit"),
        (["--figure", "scores.png"], {}, ".html"),
        ([], {"tasks": " , "}, "none named"),
    ],
)
def test_bad_usage_is_one_calm_message(evaluate, arguments, changes, said):
    code, out, err = evaluate(*arguments, **changes)
    assert (code, out) == (2, "")
    assert said in err and "Traceback" not in err


def test_a_missing_extra_is_named(evaluate, monkeypatch):
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    code, out, err = evaluate()
    assert (code, out) == (2, "")
    assert "pip install 'abbie-lens[eval]'" in err and "Traceback" not in err


def test_a_refused_depth_is_a_dash_null_and_a_reason(evaluate, monkeypatch):
    from abbie_lens import HookedLoopedTransformer
    from abbie_lens.errors import DepthError

    known = HookedLoopedTransformer.depth

    def depth(self, n_iters=None):
        if n_iters == 3:
            raise DepthError("n_iters=3: this loop has 2 steps")
        return known(self, n_iters)

    monkeypatch.setattr(HookedLoopedTransformer, "depth", depth)
    code, out, err = evaluate("--limit", "4")
    assert code == 0, err
    assert next(line for line in out.splitlines() if "acc ↑" in line).split()[-1] == "–"
    assert "r=3: not defined. n_iters=3: this loop has 2 steps" in out
    told = json.loads(evaluate("--limit", "4", "--json")[1])
    assert {s["value"] for s in told["scores"] if s["n_iters"] == 3} == {None}
    code, out, err = evaluate("--limit", "4", n_iters="3")
    assert (code, out) == (2, "") and "2 steps" in err


def test_a_bundled_model_prefers_grammatical_sentences(command, task_folder):
    """End to end on weights that were trained: better than chance, by more than the interval."""
    name = "abbie-d-novels-mini"
    if name not in zoo.names():
        pytest.skip(f"{name} is not bundled")
    code, out, err = command(
        "eval", name, "--tasks", "minimal_pairs", "--include-path", str(task_folder),
        "--n-iters", "2", "--json",
    )  # fmt: skip
    assert code == 0, err
    acc = next(s for s in json.loads(out)["scores"] if s["metric"] == "acc")
    assert acc["n_documents"] == 20 and acc["low"] > acc["chance"]
