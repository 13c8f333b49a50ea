"""The lines that docs/lenses.md shows are lines that run."""

import re
from pathlib import Path

import pytest

DOC = (Path(__file__).parents[2] / "docs" / "lenses.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_line_runs():
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "docs/lenses.md", "exec"), scope)
    assert len(blocks) == 5 and set(scope["inside"].to_frame()["block"]) >= {"", "tail.0"}
