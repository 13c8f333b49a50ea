"""The site of the documents: what its pages are made of is there, and what the guides tell to write works."""

import ast
import json
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

import abbie_lens
from abbie_lens.loops import FAMILIES
from docs.site import notebook_pages, reference
from docs.site.calls import PYTHON, figure_calls, unknown_names
from docs.site.embed import embedded
from docs.site.figures import run
from probes import result

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_every_family_is_on_its_page_with_its_equation_and_a_figure():
    page = reference.families_page()
    assert set(re.findall(r"^`([\w-]+)`, ", page, re.M)) == set(FAMILIES)
    assert page.count('role="img"') == len(FAMILIES) and "h_{k+1} = B(h_k) + h_k" in page


@pytest.mark.parametrize("stored", sorted((DOCS / "figures").glob("*.json")), ids=lambda p: p.stem)
def test_every_line_that_draws_has_its_figure(stored):
    if stored.stem == "families":
        return
    figures = [figure["call"] for figure in json.loads(stored.read_text(encoding="utf-8"))]
    blocks = PYTHON.findall((DOCS / f"{stored.stem}.md").read_text(encoding="utf-8"))
    assert figures == [ast.unparse(call) for block in blocks for call in figure_calls(block)]


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_a_notebook_page_has_every_figure_of_its_run(path):
    page, notebook = notebook_pages.page(path), path.read_text(encoding="utf-8")
    assert page.count('role="img"') == notebook.count(notebook_pages.FIGURE) > 0


def test_a_notebook_that_was_never_run_is_refused(tmp_path):
    cell = {"cell_type": "code", "source": ["1"], "execution_count": None, "outputs": []}
    (tmp_path / "new.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ValueError, match=r"new\.ipynb: cell 0 was never run"):
        notebook_pages.page(tmp_path / "new.ipynb")


def test_tokens_in_a_figure_cannot_leave_its_element():
    hostile = {"data": [{"text": "</script><b>"}], "layout": {"title": {"text": '"><b>'}}}
    page = embedded(hostile)
    assert page.count("</script>") == 1 and "<b>" not in page


def test_the_lines_of_a_page_are_run_in_both_themes():
    class Drawn:
        def figure(self, size=1, *, theme):
            return self

        def to_json(self):
            return "{}"

    found = run("x = thing\nx.figure(), x.figure(size=2)", {"thing": Drawn()})
    assert [figure["call"] for figure in found] == ["x.figure()", "x.figure(size=2)"]
    assert unknown_names("def f(a):\n    return a + b", {}) == {"b"}


def test_lines_of_the_iteration_axis_run():
    scope: dict = {}
    for block in PYTHON.findall((DOCS / "iteration-axis.md").read_text(encoding="utf-8")):
        exec(compile(block, "docs/iteration-axis.md", "exec"), scope)
    assert scope["state"].k == 1


def _written(page: str, monkeypatch) -> dict[str, ModuleType]:
    """The files that a guide tells to write, imported under their names."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    made = {}
    for path, code in re.findall(r"^`([\w/.]+)\.py`:\n\n```python\n(.*?)^```", text, re.S | re.M):
        module = ModuleType(path.replace("/", "."))
        monkeypatch.setitem(sys.modules, module.__name__, module)
        exec(compile(code, path, "exec"), module.__dict__)
        made[path] = module
    return made


def test_the_family_of_the_guide_passes_its_own_test(monkeypatch):
    made = _written("add-a-family", monkeypatch)
    test = made["tests/abbie_lens/loops/test_momentum"]
    test.test_the_last_step_is_taken_again(torch.arange(18).reshape(2, 9))


def test_the_analysis_of_the_guide_passes_its_own_test_and_draws(monkeypatch):
    from tests.probes.conftest import Iterated

    monkeypatch.setattr(result, "_REGISTRY", dict(result._REGISTRY))
    made = _written("add-an-analysis", monkeypatch)
    made["tests/probes/test_growth"].test_a_map_that_triples_grows_by_three(Iterated)
    model = abbie_lens.load("abbie-d-novels-mini")
    assert made["probes/growth"].growth(model, "She opened", 2).figure(theme="dark").data


def test_what_the_readme_says_of_transformer_lens_holds():
    class Looped(HookedRootModule):
        def __init__(self):
            super().__init__()
            self.hook_h = HookPoint()
            self.setup()

        def forward(self, x):
            for _ in range(3):
                x = self.hook_h(x + 1)
            return x

    model = Looped()
    _, theirs = model.run_with_cache(torch.zeros(1))
    _, ours = abbie_lens.record(model, torch.zeros(1))
    assert theirs["hook_h"].tolist() == [3] and ours["hook_h"].tolist() == [[1], [2], [3]]
