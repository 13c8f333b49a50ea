"""The lines that docs/labels.md shows are lines that run, and its names are the names."""

import re
from pathlib import Path

from probes.labels import COUNTED, LABELS, TASK_LABELS, TREEBANK_LABELS

DOC = (Path(__file__).parents[2] / "docs" / "labels.md").read_text(encoding="utf-8")


def test_every_label_is_named():
    named = set(re.findall(r"`(\w+)`", DOC))
    assert named >= {*LABELS, *COUNTED, *TREEBANK_LABELS, *TASK_LABELS}


def test_every_line_runs(tiny_model, tiny_tokenizer, monkeypatch):
    import abbie_lens

    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    monkeypatch.setattr(abbie_lens, "load", lambda name: model)
    blocks = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    scope: dict = {}
    for block in blocks:
        *_, last = block.rstrip().rpartition("\n")
        exec(
            compile(block.replace("n_iters=2)", "n_iters=1, max_tokens=600)"), "labels.md", "exec"),
            scope,
        )
        scope["last"] = last
    assert len(blocks) == 5
    upos, classes = scope["upos"], scope["upos"].classes
    got = [classes[c] if c >= 0 else None for c in upos.of(0, [], scope["spans"])]
    # "eep." ends two words.
    assert got == ["DET", "NOUN", "AUX", None, None]
