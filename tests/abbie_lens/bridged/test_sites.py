"""Sites of a bridged model by both kinds of names, with iterations on the Body's alone."""

import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import SiteError
from tests.abbie_lens.bridged import decoders

R = 4
TOKENS = torch.randint(0, decoders.VOCABULARY, (2, 7), generator=torch.Generator().manual_seed(2))
SAME = {
    "body.0.hook_resid_pre": "blocks.1.hook_resid_pre",
    "body.1.attn.hook_pattern": "blocks.2.attn.hook_pattern",
    "body.1.mlp.hook_post": "blocks.2.mlp.hook_post",
    "head.0.hook_resid_post": "blocks.0.hook_out",
    "tail.0.attn.hook_z": "blocks.3.attn.hook_z",
    "embed.hook_out": "hook_embed",
}


def looped(name="llama", rule="abbie-d", **given):
    return LoopedBridge(decoders.make(name, **given), Loop(1, 3, rule))


@pytest.mark.parametrize("name", ["gpt2", "llama", "neox", "gemma3"])
def test_both_names_read_the_same_site(name):
    model = looped(name)
    with torch.no_grad():
        _, cache = model.run_with_cache(TOKENS, n_iters=R)
    for ours, theirs in SAME.items():
        assert ours in model.hook_dict and theirs not in model.hook_dict
        assert torch.equal(cache[ours], cache[theirs])
    stacked = cache["blocks.2.attn.hook_pattern"]
    assert stacked.shape == (R, 2, 4, 7, 7)
    assert torch.equal(cache["blocks.2.attn.hook_pattern@2"], stacked[2])
    assert torch.equal(cache["body.1.attn.hook_pattern@-1"], stacked[3])
    assert cache["loop.hook_state"].shape == (R + 1, 2, 7, decoders.WIDTH)
    assert cache.iterations("blocks.1.hook_in") == list(range(R))


@pytest.mark.parametrize("names", [SAME.keys(), SAME.values()])
def test_a_hook_changes_what_comes_after_its_iteration_and_nothing_before(names):
    chosen = next(n for n in names if "resid_pre" in n)
    model, rows = looped(), []

    def double(x, hook):
        rows.append(hook.iteration)
        return 2 * x

    states = "loop.hook_state"
    with torch.no_grad():
        _, plain = model.run_with_cache(TOKENS, n_iters=R, names_filter=states)
        with model.hooks([(f"{chosen}@2", double)]):
            _, changed = model.run_with_cache(TOKENS, n_iters=R, names_filter=states)
        after = model(TOKENS, n_iters=R)
    assert rows == [2]
    assert torch.equal(changed[states][:3], plain[states][:3])
    assert all((changed[states][k] - plain[states][k]).abs().max() > 1e-3 for k in (3, 4))
    assert torch.equal(after, model(TOKENS, n_iters=R))


def test_sites_before_the_tail_fire_once_a_run_though_each_readout_runs_the_embedding():
    model, seen = looped("gpt2"), []
    count = lambda x, hook: seen.append(hook.name)  # noqa: E731
    once = (
        "embed.hook_out",
        "pos_embed.hook_out",
        "head.0.hook_resid_pre",
        "tail.0.hook_resid_pre",
    )
    with torch.no_grad(), model.hooks([(n, count) for n in (*once, "body.0.hook_resid_pre")]):
        model(TOKENS, n_iters=R)
    assert sorted(seen) == sorted([*once, *["body.0.hook_resid_pre"] * R])
    seen.clear()
    with torch.no_grad(), model.hooks([("hook_embed", lambda x, hook: torch.zeros_like(x))]):
        changed = model(TOKENS, n_iters=R)
    assert (changed - model(TOKENS, n_iters=R)).abs().max() > 1e-3


def test_filters_and_callables_take_both_names():
    model = looped()
    with torch.no_grad():
        _, a = model.run_with_cache(TOKENS, n_iters=R, names_filter="blocks.1.hook_in@1:3")
        _, b = model.run_with_cache(
            TOKENS, n_iters=R, names_filter=lambda n: n == "blocks.1.hook_in"
        )
    assert a.iterations("body.0.hook_resid_pre") == [1, 2]
    assert list(b) == ["body.0.hook_resid_pre"]


def test_addresses_that_do_not_exist():
    model = looped()
    with pytest.raises(SiteError, match="outside the loop"):
        model.address("blocks.0.hook_resid_pre@1")
    with pytest.raises(SiteError, match="no such site"):
        model.address("blocks.9.hook_resid_pre")
    with pytest.raises(SiteError, match="iteration 4 does not exist"):
        model.run_with_hooks(TOKENS, n_iters=R, fwd_hooks=[("blocks.1.hook_resid_pre@4", print)])


def test_gradients_come_by_iteration_and_are_those_of_finite_differences():
    model = looped(rule="damped")
    _, cache = model.run_with_cache(
        TOKENS, n_iters=R, incl_bwd=True, return_type="loss", names_filter="loop.hook_state"
    )
    grad = cache["loop.hook_state_grad@2"]
    direction = torch.randn(grad.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        values = [
            model.run_with_hooks(
                TOKENS, n_iters=R, return_type="loss",
                fwd_hooks=[("loop.hook_state@2", lambda x, hook, s=s: x + s * direction)],
            )
            for s in (-1e-3, 1e-3)
        ]  # fmt: skip
    slope = float(values[1] - values[0]) / 2e-3
    assert slope == pytest.approx(float((grad * direction).sum()), rel=0.02, abs=1e-3)
