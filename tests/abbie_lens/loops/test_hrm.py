"""HRM's nest of two stacks against its equation: states, rows, gradient of the last inner cycles alone."""

import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.flops import count_flops
from abbie_lens.loops import HRM
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, final_norm, rms

close = dict(atol=2e-5, rtol=1e-5)


def nest(model, tokens, n_iters):
    """z_H, the high stack's raw output and every z_L of 0 … n_iters outer cycles."""
    loop, eps = model.cfg.loop, model.cfg.eps
    low_stack, high_stack = (
        list(model.body)[: loop.n_low_blocks],
        list(model.body)[loop.n_low_blocks :],
    )
    high = raw = model.cfg.embed_scale * model.embed.weight[tokens]
    low = model.loop.low_init.weight.expand_as(high)
    lows = []
    yield high, raw, lows
    for _ in range(n_iters):
        for _ in range(loop.low_cycles):
            low = rms(blocks(low_stack, low + high), eps)
            lows.append(low)
        raw = blocks(high_stack, high + low)
        high = rms(raw, eps)
        yield high, raw, lows


@pytest.mark.parametrize(
    ("loop", "n_blocks"), [(HRM(), 2), (HRM(low_cycles=2), 4), (HRM(2, n_low_blocks=1), 3)], ids=str
)
@torch.no_grad()
def test_every_state_is_the_equations(tokens, loop, n_blocks):
    model = make(loop, n_body_blocks=n_blocks)
    model.loop.low_init.weight.copy_(torch.randn(32, generator=torch.Generator().manual_seed(2)))
    expected = nest(model, tokens, 3)
    for state, (high, raw, _) in zip(walk(model, tokens, 3), expected, strict=True):
        torch.testing.assert_close(state.h, high, **close)
        torch.testing.assert_close(state.z, raw, atol=1e-4, rtol=1e-5)
        logits = final_norm(model, raw) @ model.unembed.weight.T
        torch.testing.assert_close(model.readout(state), logits, atol=1e-4, rtol=0)
        if state.k:
            torch.testing.assert_close(logits, high @ model.unembed.weight.T, atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_low_state_has_a_row_for_each_pair_of_cycles(tokens):
    model = make(HRM(low_cycles=2), n_body_blocks=3)
    assert model.cfg.loop.n_low_blocks == 1, "half, rounded down"
    *_, (_, _, lows) = nest(model, tokens, 3)
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    rows = cache["loop.hook_low_state"]
    assert len(rows) == model.rows("body.0.attn.hook_q", 3) == 3 * 2
    for k in range(3):
        for inner in range(2):
            row = k * 2 + inner
            torch.testing.assert_close(rows[row], lows[row], **close)
            # What the low stack read: z_L of the cycle before, and z_H of this outer cycle.
            before = lows[row - 1] if row else model.loop.low_init.weight.expand_as(lows[0])
            high = cache[f"loop.hook_state@{k}"]
            torch.testing.assert_close(
                cache[f"body.0.hook_resid_pre@{row}"], before + high, **close
            )
        torch.testing.assert_close(
            cache[f"body.1.hook_resid_pre@{k}"], high + lows[2 * k + 1], **close
        )
    assert model.rows("body.1.attn.hook_q", 3) == model.rows("body.2.ln1.hook_scale", 3) == 3


@torch.no_grad()
def test_the_low_state_is_carried_and_patched_by_its_row(tokens):
    model = make(HRM(low_cycles=2))
    clean = model.run_with_cache(tokens, n_iters=3)[1]["loop.hook_state"]
    for row, first in ((1, 1), (2, 2), (5, 3)):
        with model.hooks([(f"loop.hook_low_state@{row}", lambda x, hook: x.flip(-1))]):
            found = model.run_with_cache(tokens, n_iters=3)[1]["loop.hook_state"]
        assert torch.equal(found[:first], clean[:first])
        assert not any(torch.equal(found[k], clean[k]) for k in range(first, 4)), row
    state = walk(model, tokens, 1)[1]
    other = state.replace(carry={"low": state.carry["low"].flip(-1)})
    assert not torch.allclose(model.step(other).h, model.step(state).h, atol=1e-3)


def inner_gradients(model, tokens, n_iters):
    """Whether z_L of each inner cycle has a gradient, by outer cycle."""
    lows = []
    keep = lambda x, hook: lows.append(x)  # noqa: E731
    with model.hooks([("loop.hook_low_state", keep)]):
        Objective(model, Recipe())(tokens, None, n_iters, 1.0)
    cycles = model.cfg.loop.low_cycles
    flags = [low.requires_grad for low in lows]
    return [flags[k * cycles : (k + 1) * cycles] for k in range(n_iters)]


@pytest.mark.parametrize(
    ("listed", "n_iters", "counts"),
    [((2,), 2, [1, 2]), ((2,), 3, [1, 1, 2]), ((3, 0), 2, [3, 0]), ((0, 1, 2), 2, [0, 1]), ((), 1, [1])],
)  # fmt: skip
def test_only_the_last_inner_cycles_carry_gradient_in_training(tokens, listed, n_iters, counts):
    model = make(HRM(backprop_cycles=listed))
    assert inner_gradients(model.train(), tokens, n_iters) == [
        [False] * (3 - n) + [True] * n for n in counts
    ]
    assert inner_gradients(model.eval(), tokens, n_iters) == [[True] * 3] * n_iters
    trained, whole = (Objective(m, Recipe())(tokens, None, n_iters, 1.0)[0] for m in (model.train(), model.eval()))  # fmt: skip
    torch.testing.assert_close(trained, whole, msg="truncation changes the gradient, not the loss")


def test_a_cycle_costs_both_stacks():
    model = make(HRM(low_cycles=3), n_body_blocks=5)
    d, mlp, n = 32, 64, 96
    block = 2 * d * d * 5 + 4 * n * d + 6 * d * mlp
    assert count_flops(model, 2).iterations == ((3 * 2 + 3) * block,) * 2
    assert count_flops(model, 2).head == count_flops(model, 2).tail == 0


@pytest.mark.parametrize(
    ("loop", "changes", "message"),
    [
        (HRM(), {"n_body_blocks": 1}, r"n_low_blocks=0"),
        (HRM(n_low_blocks=2), {}, r"n_low_blocks=2: expected 1 to 1"),
        (HRM(low_cycles=0), {}, r"low_cycles=0"),
        (HRM(backprop_cycles=(4,)), {}, r"backprop_cycles=\(4,\): expected each 0 to low_cycles=3"),
        (HRM(), {"n_tail_blocks": 1}, r"n_tail_blocks=1"),
    ],
)  # fmt: skip
def test_stacks_and_cycles_that_do_not_fit(loop, changes, message):
    with pytest.raises(ConfigError, match=message):
        make(loop, **changes)
