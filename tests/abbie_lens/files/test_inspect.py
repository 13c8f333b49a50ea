"""inspect: what a model is and needs, from config and headers, equal to what it is and takes once loaded."""

import json

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import InputError
from abbie_lens.files.inspect import inspect
from abbie_lens.files.weights import StoredTensors
from abbie_lens.hooks import memory


@pytest.mark.parametrize("name", ["huginn", "hrm_text", "parcae", "pondering_pythia", "loopus"])
@torch.no_grad()
def test_it_says_what_a_run_then_holds(shared_fixtures, monkeypatch, name):
    folder = shared_fixtures / name
    seen = inspect(folder, n_iters=2, n_ctx=6)
    model = load(folder, device="cpu")
    assert seen.format == name and seen.cfg == model.cfg.replace(model_name=str(folder))
    assert seen.n_params == sum(p.numel() for p in model.state_dict(keep_vars=True).values()) - (
        model.unembed.weight.numel() if model.cfg.tie_word_embeddings else 0
    )
    _, cache = model.run_with_cache(torch.zeros(1, 6, dtype=torch.long), n_iters=2)
    for site, rows, shape in seen.sites:
        if site in cache:
            assert tuple(cache[site].shape) == ((rows, *shape) if rows else shape), site
    sizes = {site: cache[site].numel() for site, _, _ in seen.sites if site in cache}
    assert seen.capture_bytes >= 4 * sum(sizes.values())
    assert seen.states_bytes == 4 * (sizes["loop.hook_state"] + sizes["loop.hook_readout"])


def test_no_weight_is_read(shared_fixtures, monkeypatch):
    monkeypatch.setattr(StoredTensors, "__getitem__", None)
    assert inspect(shared_fixtures / "loopus").gate


def test_a_saved_model(tiny_model, tiny_tokenizer, tmp_path):
    folder = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300).save_pretrained(tmp_path / "m")
    seen = inspect(folder)
    assert (seen.format, seen.tokenizer, seen.n_ctx) == ("abbie-lens", len(tiny_tokenizer), 64)
    with pytest.raises(InputError, match="n_ctx=65"):
        inspect(folder, n_ctx=65)


def test_a_load_that_cannot_fit_does_not_begin(shared_fixtures, monkeypatch):
    class Nothing:
        available = 1000

    monkeypatch.setattr(memory.psutil, "virtual_memory", Nothing)
    monkeypatch.setattr(StoredTensors, "__getitem__", None)
    with pytest.raises(InputError, match=r"loading needs .* are free"):
        load(shared_fixtures / "ouro")


def test_the_command(shared_fixtures):
    from typer.testing import CliRunner

    from app.cli import cli

    folder = str(shared_fixtures / "ouro")
    result = CliRunner().invoke(cli, ["inspect", folder, "--json", "--n-ctx", "8"])
    told = json.loads(result.stdout)
    assert (told["format"], told["n_iters"], told["gate"]) == ("ouro", 4, True)
    assert told["sites"]["loop.hook_state"] == {"rows": 5, "shape": [1, 8, 48]}
    text = CliRunner().invoke(cli, ["inspect", folder, "--sites"]).stdout
    assert "Head 0, Body 2, Tail 0" in text and "body.1.attn.hook_pattern" in text
