"""The lines that docs/halting.md shows are lines that run, and its names are the names."""

import re
import textwrap
from pathlib import Path

import torch

from abbie_lens.kv_store import RULES

PAGE = Path(__file__).resolve().parents[2] / "docs/halting.md"


def test_the_lines_run():
    text = PAGE.read_text(encoding="utf-8")
    block = textwrap.dedent("\n".join(re.findall(r"(?m)^    .*$|^$", text.split("## Rules")[0])))
    block = block.replace('"abbie-d-novels"', '"abbie-d-novels-mini"').replace("64", "3")
    scope = {"tokens": torch.tensor([[5, 6, 7, 8]])}
    exec(compile(block, "docs/halting.md", "exec"), scope)
    assert scope["logits"].shape[:2] == (1, 4) and scope["text"].startswith("Once")
    assert scope["run"].exits.min() >= 2


def test_every_rule_on_keys_is_explained():
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"| `{name}` |" in text for name in (*RULES, "cyclic(N)"))
