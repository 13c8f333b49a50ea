"""The lines that docs/interventions.md shows are lines that run, and its sites are the sites."""

import re
from pathlib import Path

from probes.interventions.sites import COMPONENTS

DOC = (Path(__file__).parents[2] / "docs" / "interventions.md").read_text(encoding="utf-8")


def test_every_site_is_there():
    table = DOC.split("| `site` |")[1].split("\n\n")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(COMPONENTS)


def test_every_line_runs():
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    scope: dict = {}
    for block in blocks:
        exec(compile(block, "docs/interventions.md", "exec"), scope)
    assert len(blocks) == 5 and scope["result"].texts["plain"]
