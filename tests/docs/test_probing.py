"""The lines that docs/probing.md shows are lines that run."""

import re
from pathlib import Path

import numpy as np
import pytest

import probes
from probes.probing.sentences import Sentence

DOC = (Path(__file__).parents[2] / "docs" / "probing.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_every_line_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    y, documents = rng.integers(0, 2, 200), np.repeat(np.arange(10), 20)
    x = rng.normal(size=(200, 4))
    chain = np.abs(np.subtract.outer(np.arange(4), np.arange(4))).astype(float)
    sentences = [Sentence(i, np.arange(20 * i, 20 * i + 4), chain[0], chain) for i in range(10)]
    scope: dict = dict(
        features=[x], labels=y, token_ids=rng.integers(0, 9, 200), documents=documents,
        x=x, y=y, x_test=x, y_test=y, sentences=sentences,
    )  # fmt: skip
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    for block in blocks:
        exec(compile(block, "docs/probing.md", "exec"), scope)
    assert len(blocks) == 6 and scope["result"].fitted().probes["loop.hook_state@3"].direction.size
    assert all(name in DOC for name in ("`linear`", "`fit_many`", "`fit_structural`"))
    assert isinstance(probes.FittedProbes.load("word-start"), probes.FittedProbes)
