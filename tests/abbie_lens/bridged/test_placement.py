"""A plain decoder with a loop: seen without its weights as it then is, and placed block by block."""

import gc
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from abbie_lens import Loop, load
from abbie_lens.errors import InputError
from abbie_lens.files import memory_plan
from abbie_lens.files.inspect import inspect
from tests.abbie_lens.bridged import decoders

LOOP = Loop(1, 3, "damped")
BLOCKS = {"gpt2": "transformer.h", "llama": "model.layers"}
TOKENS = torch.arange(6)[None]


@pytest.fixture(params=BLOCKS)
def saved(request, tmp_path):
    source = decoders.make(request.param)
    source.save_pretrained(tmp_path / "plain")
    blocks = BLOCKS[request.param]
    return tmp_path / "plain", parts(source, blocks)


def parts(source, blocks):
    """A device map by transformers' names: every second block on disk."""
    held = {n.removesuffix(".weight").removesuffix(".bias") for n, _ in source.named_parameters()}
    alone = {n: "cpu" for n in held if not n.startswith(blocks)}
    alone |= {n: "cpu" for n, _ in source.named_modules() if n.endswith(("rotary_emb", "lm_head"))}
    return alone | {f"{blocks}.{b}": "disk" if b % 2 else "cpu" for b in range(decoders.N_BLOCKS)}


@torch.no_grad()
def test_it_says_what_a_run_then_holds(saved):
    folder, _ = saved
    seen = inspect(folder, loop=LOOP, n_iters=3, n_ctx=6)
    model = load(folder, device="cpu", loop=LOOP)
    _, cache = model.run_with_cache(TOKENS, n_iters=3)
    assert {name for name, _, _ in seen.sites} == set(cache)
    for name, rows, shape in seen.sites:
        assert tuple(cache[name].shape) == ((rows, *shape) if rows else shape), name
    assert seen.capture_bytes == cache.nbytes
    assert seen.n_params == sum(p.numel() for p in decoders_parameters(folder))
    assert seen.memory.weights == {"cpu": 4 * seen.n_params}
    assert (seen.cfg.n_head_blocks, seen.cfg.n_tail_blocks) == (1, 1)


def decoders_parameters(folder):
    from transformers import AutoModelForCausalLM

    return list(AutoModelForCausalLM.from_pretrained(folder).parameters())


@torch.no_grad()
def test_blocks_on_disk_give_the_same_model(saved, tmp_path):
    folder, device_map = saved
    plain = load(folder, device="cpu", loop=LOOP)
    seen = []
    spread = load(
        folder,
        loop=LOOP,
        device_map=device_map,
        offload_folder=tmp_path / "off",
        announce=seen.append,
    )
    assert any(p.is_meta for p in spread.source.parameters()) and seen[0].weights["disk"] > 0
    (ours, of), (theirs, in_) = (m.run_with_cache(TOKENS, n_iters=3) for m in (plain, spread))
    assert torch.equal(ours, theirs)
    for name in of:
        assert torch.equal(of[name], in_[name]), name
    assert plain.info().weight_hash == spread.info().weight_hash


@torch.no_grad()
def test_two_decoders_may_share_the_folder_and_take_their_files_with_them(saved, tmp_path):
    folder, device_map = saved
    options = {"loop": LOOP, "device_map": device_map, "offload_folder": tmp_path / "off"}
    first = load(folder, **options)
    before = first(TOKENS)
    other = shutil.copytree(folder, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    save_file({n: 2 * t for n, t in tensors.items()}, other / "model.safetensors", {"format": "pt"})
    second = load(other, **options)
    assert torch.equal(first(TOKENS), before) and not torch.equal(second(TOKENS), before)
    del first, second
    gc.collect()
    assert not list((tmp_path / "off").iterdir())


@torch.no_grad()
def test_auto_within_a_limit(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    folder, _ = saved
    plain = load(folder, device="cpu", loop=LOOP)
    total = sum(inspect(folder, loop=LOOP).memory.weights.values())
    spread = load(
        folder,
        loop=LOOP,
        device_map="auto",
        max_memory={"cpu": int(0.9 * total)},
        offload_folder=tmp_path / "off",
    )
    assert any(p.is_meta for p in spread.source.parameters())
    assert torch.equal(spread(TOKENS, n_iters=2), plain(TOKENS, n_iters=2))


def test_refusals(saved, monkeypatch):
    folder, device_map = saved
    with pytest.raises(InputError, match="offload_folder: needed"):
        load(folder, loop=LOOP, device_map=device_map)
    with pytest.raises(InputError, match="device_map"):
        load(folder, loop=LOOP, device_map={"lm_head": "cpu"})
    with pytest.raises(InputError, match="on disk; expected a device"):
        load(folder, loop=LOOP, device_map={"": "disk"}, offload_folder=folder)
    with pytest.raises(InputError, match="n_ctx=65"):
        inspect(folder, loop=LOOP, n_ctx=65)
    monkeypatch.setattr(memory_plan, "free_bytes", lambda _at: 1000)
    with pytest.raises(InputError, match=r"loading needs .* on cpu"):
        load(folder, device="cpu", loop=LOOP)
    assert load(folder, device="cpu", loop=LOOP, check_memory=False).cfg.n_body_blocks == 2


def test_the_command(saved):
    import json

    from typer.testing import CliRunner

    from app.cli import cli

    settings = ["--start", "1", "--stop", "3", "--loop", "damped", "-r", "3", "--n-ctx", "6"]
    told = json.loads(
        CliRunner().invoke(cli, ["inspect", str(saved[0]), *settings, "--json"]).stdout
    )
    assert told["sites"]["loop.hook_state"] == {"rows": 4, "shape": [1, 6, decoders.WIDTH]}
    assert told["memory"]["fits"] and told["config"]["loop"]["family"] == "damped"
    text = CliRunner().invoke(cli, ["inspect", str(saved[0]), *settings]).stdout
    assert "Head 1, Body 2, Tail 1" in text
