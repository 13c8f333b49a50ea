"""docs/tasks.md: its examples are solved by the independent solvers, its code runs as it stands."""

import importlib.util
import math
import re
from pathlib import Path

import pytest

from abbie_lens import tasks

_spec = importlib.util.spec_from_file_location("solvers", Path(__file__).with_name("solvers.py"))
solvers = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(solvers)


@pytest.fixture(scope="module")
def document(project_root: Path) -> str:
    return (project_root / "docs" / "tasks.md").read_text("utf-8")


def test_the_table_states_every_task_as_its_class_does(document):
    rows = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| (.+?) \| (.+?) \|$", document, re.M)
    assert {name for name, *_ in rows} == set(tasks.TASKS)
    for name, example, asks, steps in rows:
        task = tasks.make(name)
        assert (asks, steps) == (task.asks, task.steps)
        words = example.split()
        solved = list(solvers.SOLVERS[name](words))
        assert solved and all(words[i] == answer for i, answer, _ in solved)
        needed = task.needed(words)
        assert [needed[i - 1] for i, _, _ in solved] == [steps for _, _, steps in solved]


def test_the_code_runs_as_it_stands(document, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", document, re.M | re.S)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(compile(block, "tasks.md", "exec"), names)
    exits, labels = names["exits"], names["labels"]
    joined = exits.merge(labels, on=["batch", "position", "token"], validate="one_to_one")
    assert len(joined) == len(labels) == names["batch"].real.sum()
    # An answer's NLL in the analysis is that of the answer in the table.
    model, batch = names["model"], names["batch"]
    nll = model(batch.tokens, n_iters=4, return_type="loss", loss_per_token=True)
    answers = joined[joined.counted]
    assert len(answers) == batch.counted.sum() > 0
    for row in answers.itertuples():
        assert math.isclose(
            row.nll_full, nll[row.batch, row.position].item(), rel_tol=1e-3, abs_tol=1e-3
        )
        assert model.to_str_tokens(batch.tokens[row.batch])[row.position + 1] == row.answer
    assert "exit_step" in capsys.readouterr().out
    depth, stops = names["depth"], names["stops"]
    assert (depth.accuracy[[1, 2, 4]] == names["result"].accuracy).all()
    assert set(stops.needed) <= {1, 2, 3} and len(stops.needed) == (depth.needed > 0).sum()
