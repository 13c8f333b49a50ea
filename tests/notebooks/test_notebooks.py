"""Every notebook runs from its first cell to its last, and what is stored of it came from a run."""

import re

import nbformat
import pytest

from notebooks.__main__ import HERE, executed

NOTEBOOKS = sorted(HERE.glob("*.ipynb"))
PLOTLY = "application/vnd.plotly.v1+json"


def outputs(notebook):
    return [out for cell in notebook.cells for out in cell.get("outputs", [])]


def sentences(notebook):
    return [
        out["data"]["text/markdown"]
        for out in outputs(notebook)
        if "text/markdown" in out.get("data", {})
    ]


def test_there_are_notebooks():
    names = [path.stem for path in NOTEBOOKS]
    assert names == ["dynamics", "halting", "lenses", "patching", "probing"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_stored_was_put_out_by_a_whole_run_and_is_small(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    # No errors, and no warnings either: those name paths of the machine.
    assert {out.output_type for out in outputs(notebook)} <= {"display_data", "execute_result"}
    assert any(PLOTLY in out.data for out in outputs(notebook)) and sentences(notebook)
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_figure_is_typed(path):
    """Numbers stand in outputs alone; `0pt`, `h_0` are names."""
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "markdown":
            assert not re.findall(r"(?<![\w.])\d+(?:\.\d+)?%?(?!\w)", cell.source), cell.source


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path):
    before, now = nbformat.read(path, as_version=4), executed(path)
    assert not [out for out in outputs(now) if out.output_type == "error"]
    assert len(sentences(now)) == len(sentences(before))
