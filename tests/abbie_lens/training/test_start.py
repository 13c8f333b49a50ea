"""Starting from given weights, and training a gate alone."""

import json

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig, load
from abbie_lens.errors import CheckpointError, ConfigError
from abbie_lens.loops import AbbieC, Ouro
from abbie_lens.training import train

QUIET = dict(on_progress=lambda now: None)
SIZES = dict(d_model=16, n_heads=2, n_ctx=24, d_mlp=32, n_iters=2)


@pytest.fixture(scope="module")
def ouro(settings, tmp_path_factory):
    """Folder of a short run of Ouro, and its model settings."""
    model = {
        **SIZES,
        **Ouro.shape(16),
        "n_iters": 2,
        "n_body_blocks": 2,
        "loop": {"family": "ouro"},
    }
    out = tmp_path_factory.mktemp("ouro") / "joint"
    return train(settings(out, model=model, train_tokens=8 * 23 * 6), **QUIET), model


def test_the_gates_stage_moves_the_gate_alone_and_resumes(ouro, settings, tmp_path, losses):
    final, model = ouro
    given = dict(model=model, init_from=str(final), recipe={"stage": "gate"}, checkpoint_every=3)
    before = load(final, device="cpu")
    whole = train(settings(tmp_path / "whole", train_tokens=8 * 23 * 6, **given), **QUIET)
    after = load(whole, device="cpu")
    moved = {
        name
        for name, p in after.named_parameters()
        if not torch.equal(p, before.get_parameter(name))
    }
    assert moved == {"loop.gate.weight", "loop.gate.bias"}
    assert json.loads((whole / "metrics.json").read_text())["training"]["init_from"] == "final"
    assert "starts from | `final`" in (whole / "README.md").read_text()

    half = settings(tmp_path / "half", train_tokens=8 * 23 * 3, decay_fraction=0, **given)
    train(half, **QUIET)
    again = dict(train_tokens=8 * 23 * 6, decay_fraction=0, **given)
    train(settings(tmp_path / "half", resume=True, **again), **QUIET)
    train(settings(tmp_path / "straight", **again), **QUIET)
    assert losses(tmp_path / "half") == losses(tmp_path / "straight")
    other = {**again, "init_from": None, "recipe": None}
    with pytest.raises(ConfigError, match="init_from"):
        train(settings(tmp_path / "half", resume=True, **other), **QUIET)


def test_a_run_starts_where_the_given_model_is(ouro, settings, tmp_path, losses):
    final, model = ouro
    data = dict(train_tokens=8 * 23, warmup_steps=4)
    train(settings(tmp_path / "on", model=model, init_from=str(final), **data), **QUIET)
    train(settings(tmp_path / "fresh", model=model, **data), **QUIET)
    assert losses(tmp_path / "on")[1] < losses(tmp_path / "fresh")[1] - 0.1
    made, source = (load(folder).tokenizer for folder in (tmp_path / "on/final", final))
    assert made.backend_tokenizer.to_str() == source.backend_tokenizer.to_str()


def test_a_gate_may_be_added_to_a_model_without_one(settings, finished, tmp_path):
    """PonderNet's Body is AbbIE-C's; what the given model has not is drawn."""
    model = dict(SIZES, loop={"family": "pondernet"})
    plain = dict(SIZES, loop={"family": "abbie-c"})
    start = train(settings(tmp_path / "plain", model=plain, train_tokens=8 * 23), **QUIET)
    made = train(
        settings(
            tmp_path / "gated", model=model, init_from=str(start), recipe={"stage": "gate"},
            train_tokens=8 * 23 * 2,
        ),
        **QUIET,
    )  # fmt: skip
    before, after = load(start, device="cpu"), load(made, device="cpu")
    assert after.loop.gate.bias != 0
    assert all(torch.equal(p, after.get_parameter(name)) for name, p in before.named_parameters())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"d_model": 32}, "d_model=32: .* has 16"),
        ({"norm_placement": "pre"}, "norm_placement='pre'"),
        ({"rotary_base": 500.0}, "rotary_base=500.0"),
        ({"loop": {"family": "abbie-c"}}, "unused .*loop.gate"),
    ],
)
def test_weights_that_do_not_fit_are_told(ouro, settings, tmp_path, change, says):
    final, model = ouro
    config = settings(tmp_path / "run", model={**model, **change}, init_from=str(final))
    with pytest.raises(ConfigError, match=says):
        train(config, **QUIET)


def test_a_model_that_is_not_there_is_told_before_the_text_is_read(settings, tmp_path):
    with pytest.raises(CheckpointError, match="no-such-model"):
        train(settings(tmp_path / "run", data="nowhere.txt", init_from="no-such-model"), **QUIET)


def test_a_start_keeps_the_vocabulary(settings, tmp_path):
    cfg = LoopedConfig(**SIZES, d_vocab=11, loop=AbbieC())
    HookedLoopedTransformer(cfg).save_pretrained(tmp_path / "small")
    config = settings(
        tmp_path / "run", model={**SIZES, "d_vocab": 300, "loop": {"family": "abbie-c"}},
        init_from=str(tmp_path / "small"),
    )  # fmt: skip
    with pytest.raises(ConfigError, match=r"d_vocab=300: .* has 11"):
        train(config, **QUIET)
