"""SpiralFormer against its equation, position by position, and what its shift keeps apart."""

import itertools

import pytest
import torch

from abbie_lens.errors import DepthError, SiteError
from abbie_lens.loops import Spiral
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out

close = dict(atol=5e-5, rtol=1e-5)


def iteration(model, loop, t, h, h0, memory):
    """(h_{t+1}, memory) of one row h [pos, d], all sums written out."""
    t = min(t, len(loop.schedule) - 1)
    n, g = len(h), loop.schedule[t]
    s = g if loop.no_overlap else g - 1
    coarse = []
    for j in range(n // g):
        members = h[j * g : (j + 1) * g]
        alpha = torch.full((g,), 1 / g)
        if loop.pooling == "self":
            alpha = (members @ model.loop.pool[t].weight[0]).softmax(0)
        coarse.append(sum(a * m for a, m in zip(alpha, members, strict=True)))
    if coarse:
        coarse = blocks(model.body, torch.stack(coarse)[None])[0]
    update = torch.zeros_like(h)
    for i in range(s, n):
        j, rho = divmod(i - s, g)
        if j < n // g:
            beta = torch.full((g,), 1 / g)
            if loop.pooling == "self":
                line = model.loop.spread[t]
                beta = (line.weight @ coarse[j] + line.bias).softmax(0)
            update[i] = g**0.5 * beta[rho] * coarse[j]
    if loop.merge == "anchor":
        return h0 + update, memory
    write, read = (
        (h @ line.weight.T + line.bias).softmax(-1)
        for line in (model.loop.write[t], model.loop.read[t])
    )
    memory = [m + write[:, b, None] * update for b, m in enumerate(memory)]
    return sum(read[:, b, None] * m for b, m in enumerate(memory)), memory


SETTINGS = [
    Spiral(pooling=pooling, merge=merge, no_overlap=late)
    for pooling, merge, late in itertools.product(
        ("self", "mean"), ("anchor", "mesh"), (False, True)
    )
]


@pytest.mark.parametrize("loop", SETTINGS, ids=str)
@pytest.mark.parametrize("n_tokens", [1, 3, 9])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, loop, n_tokens):
    """9 tokens leave one beyond the last whole chunk of 4 and of 2; 3 and 1 fill no chunk of 4."""
    model, row = make(loop), tokens[:1, :n_tokens]
    h = h0 = blocks(model.head, model.embed.weight[row])[0]
    memory = [h0, *[torch.zeros_like(h0)] * (loop.n_slots - 1)]
    for state in walk(model, row, 4):
        torch.testing.assert_close(state.h[0], h, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, h[None]), **close)
        h, memory = iteration(model, loop, state.k, h, h0, memory)


def leaks(loop, tokens, n_iters=2):
    """Whether a text's logits depend on what follows it, at any length."""
    model = make(loop)
    whole = model(tokens, n_iters=n_iters)
    return any(
        not torch.allclose(model(tokens[:, :n], n_iters=n_iters), whole[:, :n], atol=1e-5)
        for n in range(1, tokens.shape[1])
    )


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8])
@pytest.mark.parametrize("late", [False, True])
@torch.no_grad()
def test_nothing_leaks_at_any_resolution_and_length(size, late):
    tokens = torch.randint(0, 100, (1, 11), generator=torch.Generator().manual_seed(2))
    for pooling, merge in (("self", "anchor"), ("mean", "mesh")):
        assert not leaks(Spiral((size, 1), pooling, merge, no_overlap=late), tokens)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8])
@torch.no_grad()
def test_a_smaller_shift_leaks_and_is_seen(size, monkeypatch):
    tokens = torch.randint(0, 100, (1, 11), generator=torch.Generator().manual_seed(2))
    monkeypatch.setattr(Spiral, "_shift", lambda self, size: size - 2)
    assert leaks(Spiral((size, 1)), tokens)


@torch.no_grad()
def test_a_token_hears_every_chunk_that_is_over():
    """The shift is no larger than it must be: the last token of a chunk hears the chunk."""
    model, tokens = make(Spiral((4,)), n_head_blocks=0, n_tail_blocks=0), torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, 0] = 99
    a, b = model(tokens, n_iters=1), model(changed, n_iters=1)
    heard = (a != b).any(-1)[0].tolist()
    assert heard == [True, False, False, True, True, True, True, True]
    late = make(Spiral((4,), no_overlap=True), n_head_blocks=0, n_tail_blocks=0)
    heard = (late(tokens, n_iters=1) != late(changed, n_iters=1)).any(-1)[0].tolist()
    assert heard == [True, False, False, False, True, True, True, True]


@torch.no_grad()
def test_sites_of_the_body_change_shape_and_do_not_stack(tokens):
    cache = make("spiral").run_with_cache(tokens, n_iters=3)[1]
    shapes = [cache[f"body.0.hook_resid_pre@{i}"].shape[1] for i in range(3)]
    assert shapes == [2, 4, 9]
    with pytest.raises(SiteError, match="its shape changes with the iteration"):
        cache["body.0.hook_resid_pre"]
    assert cache["loop.hook_state"].shape == (4, 2, 9, 32)


@torch.no_grad()
def test_a_body_that_had_no_chunk_to_run_on_left_no_row(tokens):
    cache = make("spiral").run_with_cache(tokens[:, :3], n_iters=3)[1]
    assert cache.iterations("body.0.hook_resid_pre") == [1, 2]
    with pytest.raises(SiteError, match="were not recorded"):
        cache["body.0.hook_resid_pre@0"]


@torch.no_grad()
def test_beyond_the_schedule_the_last_loop_is_repeated_or_refused(tokens):
    longer = make(Spiral((4, 2, 1, 1), pooling="mean"))
    repeated = make(Spiral((4, 2, 1), pooling="mean"))
    assert torch.equal(longer(tokens, n_iters=4), repeated(tokens, n_iters=4))
    refusing = make(Spiral((4, 2, 1), beyond="refuse"))
    with pytest.raises(DepthError, match=r"n_iters=4: spiral has 3 iterations"):
        refusing(tokens, n_iters=4)
