"""docs/bring-your-own.md, followed to the letter in an empty folder."""

import re
from pathlib import Path

import torch


def test_the_document_runs_as_it_stands(project_root: Path, tmp_path, monkeypatch, capsys) -> None:
    text = (project_root / "docs" / "bring-your-own.md").read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert len(blocks) >= 9
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    for block in blocks:
        exec(compile(block, "bring-your-own.md", "exec"), names)
    told = capsys.readouterr().out
    assert "body.1.mlp.gate_proj.weight" in told
    model, mine = names["model"], names["weights"]
    assert f"{len(mine) - 1} tensors mapped, 1 dropped on purpose" in told
    assert model.name == "mine"
    assert torch.equal(model.embed.weight, mine["tok.weight"])
    assert torch.equal(model.body[1].attn.q_proj.weight, mine["layers.core.1.attn.wq.weight"])
    assert torch.equal(model.tail[0].mlp.gate_proj.weight, mine["layers.coda.0.ffn.w1.weight"])
    assert names["partial"].load_report.missing == ("ln_final.weight",)
    assert names["partial"].load_report.unused == ("norm.weight",)
    same = names["same"].state_dict()
    assert all(torch.equal(same[name], tensor) for name, tensor in model.state_dict().items())


def test_its_commands_exist(project_root: Path) -> None:
    from typer.testing import CliRunner

    from app.cli import cli

    text = (project_root / "docs" / "bring-your-own.md").read_text("utf-8")
    for command, options in re.findall(r"^abbie-lens (\w+)(.*)$", text, re.M):
        told = CliRunner().invoke(cli, [command, "--help"], env={"COLUMNS": "200"}).output
        for option in re.findall(r"--[\w-]+", options):
            assert option in told
