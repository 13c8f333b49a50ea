"""0pt and Huginn against their equations, and the state they begin from."""

import math

import numpy as np
import pytest
import torch

from abbie_lens.loops import Huginn, ZeroPt
from abbie_lens.training.depths import lognormal_poisson
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, final_norm, read_out

close = dict(atol=2e-5, rtol=1e-5)
STD = math.sqrt(2 / 5)


@pytest.mark.parametrize("loop", [ZeroPt(), ZeroPt(norm="readout"), Huginn()], ids=str)
@torch.no_grad()
def test_every_state_is_the_equations(tokens, loop):
    model, start = make(loop), torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(3))
    assert (model.body[0].ln1_post is not None) == (loop.family == "huginn")
    e = blocks(model.head, 32**0.5 * model.embed.weight[tokens])
    h, a = start, model.loop.adapter.weight
    for state in walk(model, tokens, 3, initial_state=start):
        torch.testing.assert_close(state.h, h, **close)
        z = h if loop.norm == "carried" else final_norm(model, h)
        torch.testing.assert_close(state.z, z, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, z), **close)
        h = blocks(model.body, torch.cat([h, e], -1) @ a.T)
        h = final_norm(model, h) if loop.norm == "carried" else h


@torch.no_grad()
def test_the_drawn_state_is_a_truncated_normal():
    h = make("0pt", n_ctx=4096).begin(torch.zeros(1, 4096, dtype=torch.long), 0).h
    assert h.abs().max() <= 3 * STD and h.abs().max() > 2.9 * STD
    # A normal cut at 3 standard deviations keeps 0.9733 of its variance.
    assert h.var().item() == pytest.approx(0.9733 * 2 / 5, rel=4 * math.sqrt(2 / h.numel()))
    assert abs(h.mean().item()) < 4 * STD / math.sqrt(h.numel())
    flat = h[0, :2].flatten(), h[0, 64:66].flatten()
    assert not torch.equal(*flat), "positions a block of draws apart must differ"


@torch.no_grad()
def test_the_drawn_state_belongs_to_seed_and_position(tokens):
    model = make("huginn")
    h = lambda t, **kw: model.begin(t, 0, **kw).h  # noqa: E731
    long = tokens.repeat(1, 9)
    assert torch.equal(h(long)[:, :9], h(tokens)), "a longer text changes no token's start"
    assert torch.equal(h(tokens)[0], h(tokens)[1])
    assert torch.equal(h(tokens), h(tokens, seed=0))
    assert not torch.equal(h(tokens), h(tokens, seed=1))
    padded = torch.cat([torch.zeros_like(tokens[:, :3]), tokens], 1)
    mask = (torch.arange(12) >= 3).long().expand(2, -1)
    assert torch.equal(h(padded, attention_mask=mask)[:, 3:], h(tokens))
    large = [h(tokens, seed=seed) for seed in (-1, -2, 2**63 + 1, 2**63 + 2)]
    assert len({x.sum().item() for x in large}) == 4, "large seeds fall on one draw"


@torch.no_grad()
def test_scale_zero_starts_from_zeros_and_training_draws_anew(tokens):
    assert not make(ZeroPt(init_scale=0.0)).begin(tokens, 0).h.any()
    model = make("0pt").train()
    torch.manual_seed(0)
    a, b = (model.begin(tokens, 0).h for _ in range(2))
    assert not torch.equal(a, b) and not torch.equal(a[0], a[1])
    assert torch.equal(model.begin(tokens, 0, seed=5).h, model.begin(tokens, 0, seed=5).h)
    assert a.abs().max() <= 3 * STD


def test_the_sampled_depth_has_mean_r_plus_one():
    generator, r, n = np.random.default_rng(0), 4, 100_000
    draws = np.array([lognormal_poisson(r, generator) for _ in range(n)])
    # Poisson's variance is tau's mean, and tau's own variance comes on top.
    variance = r + r**2 * (math.exp(0.25) - 1)
    assert draws.mean() == pytest.approx(r + 1, abs=4 * math.sqrt(variance / n))
    assert draws.var() == pytest.approx(variance, rel=0.1)
    assert draws.min() == 1


def test_a_steps_depth_is_a_function_of_seed_and_step():
    recipe = Recipe.from_dict(Huginn.recipe)
    depths = [recipe.n_iters(4, 0, step) for step in range(50)]
    assert depths == [recipe.n_iters(4, 0, step) for step in range(50)]
    assert len(set(depths)) > 5
    assert depths != [recipe.n_iters(4, 1, step) for step in range(50)]
    assert Recipe().n_iters(4, 0, 7) == 4
