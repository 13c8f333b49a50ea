"""The lines that docs/dynamics.md shows are lines that run, and its names are the names."""

import re
from pathlib import Path

import pytest

from probes.aggregation import ANALYSES

DOC = (Path(__file__).parents[2] / "docs" / "dynamics.md").read_text(encoding="utf-8")


def test_the_names_of_what_runs_over_a_corpus_are_all_there():
    assert re.findall(r"`(\w+)`", DOC.split("Names:")[1]) == list(ANALYSES)


@pytest.mark.slow
def test_every_line_runs():
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "docs/dynamics.md", "exec"), scope)
    assert len(blocks) == 11 and scope["paths"].reason
