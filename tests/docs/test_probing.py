"""The lines that docs/probing.md shows are lines that run."""

import re
from pathlib import Path

import numpy as np
import pytest

import probes

DOC = (Path(__file__).parents[2] / "docs" / "probing.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_line_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y, documents = rng.integers(0, 2, 200), np.repeat(np.arange(10), 20)
    x = rng.normal(size=(200, 4))
    words = "\n".join(f"{i + 1}\tword\t_\tX\t_\t_\t{i}\tdep\t_\t_" for i in range(4))
    Path("dev.conllu").write_text(f"{words}\n\n" * 8, encoding="utf-8")
    scope: dict = dict(
        features=[x], labels=y, token_ids=rng.integers(0, 9, 200), documents=documents,
        x=x, y=y, x_test=x, y_test=y,
    )  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/probing.md", "exec"), scope)
    assert len(blocks) == 6 and scope["result"].fitted().probes["loop.hook_state@3"].direction.size
    assert all(name in DOC for name in ("`linear`", "`fit_many`", "`structural`"))
    assert isinstance(probes.FittedProbes.load("word-start"), probes.FittedProbes)
