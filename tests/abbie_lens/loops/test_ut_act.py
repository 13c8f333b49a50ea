"""Universal Transformer with ACT against its equation: halts, remainders, the mean state, positions and steps."""

import math

import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.loops import UTACT
from abbie_lens.loops.ut_act import ponder_cost, sinusoids
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import run_block

close = dict(atol=5e-5, rtol=1e-5)
STILL = (torch.ones(9, 1, 8), torch.zeros(9, 1, 8))
"""cos and sin of no rotation."""


def dense(model, tokens, n_iters):
    """(s, z, F, N + R) of runs planned to end at 0 … n_iters, each by its definition from all states."""
    loop = model.cfg.loop
    t = torch.arange(max(9, n_iters + 1))[:, None] / 10000 ** (torch.arange(0, 32, 2) / 32)
    table = torch.stack([t.sin(), t.cos()], -1).flatten(1)
    s = [32**0.5 * model.embed.weight[tokens]]
    halted, total = torch.zeros(tokens.shape, dtype=torch.bool), torch.zeros(tokens.shape)
    gates = []
    for k in range(n_iters + 1):
        p, spent, n = [], torch.zeros(tokens.shape), torch.zeros(tokens.shape)
        over, remainder = torch.zeros(tokens.shape, dtype=torch.bool), spent
        for i, gate in enumerate(gates):
            last = (i == k - 1) | (spent + gate >= 1 - loop.epsilon)
            share = torch.where(over, 0.0, torch.where(last, 1 - spent, gate))
            n, spent, p = n + ~over, spent + share, [*p, share]
            remainder = torch.where(over, remainder, share)
            over = over | last
        z = sum(share[..., None] * x for share, x in zip(p, s[1:], strict=True)) if k else s[0]
        yield s[-1], z, torch.where(halted, 1.0, total), n + remainder if k else None
        x = s[-1] + table[:9] + table[k + 1]
        for block in model.body:
            x = run_block(block, x, STILL)
        s.append(torch.where(halted[..., None], s[-1], x) if loop.freeze else x)
        gates.append((s[-1] @ model.loop.gate.weight[0] + model.loop.gate.bias).sigmoid())
        total = total + gates[-1]
        halted = halted | (total >= 1 - loop.epsilon)


@pytest.mark.parametrize("name", ["ut-act", "ut-act-thaw"])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, name):
    model = make(name)
    loop, halted = model.cfg.loop, []
    expected = dense(model, tokens, 4)
    for state, (s, z, cdf, cost) in zip(walk(model, tokens, 4), expected, strict=True):
        torch.testing.assert_close(state.h, s, **close)
        torch.testing.assert_close(state.z, z, **close)
        torch.testing.assert_close(loop.exit_cdf(model, state), cdf, **close)
        halted.append((cdf == 1).float().mean().item())
        if cost is not None:
            penalty = loop.penalty(state, 0.5)
            torch.testing.assert_close(penalty, 0.01 * cost.mean(), **close)
    assert halted[1] == 0 < halted[2] < 1, "some tokens halt, or this shows nothing"


@torch.no_grad()
def test_a_halted_token_hands_on_its_state_and_keeps_its_readout(tokens):
    for name in ("ut-act", "ut-act-thaw"):
        model = make(name)
        *_, before, now = walk(model, tokens, 3)
        halted = model.cfg.loop.exit_cdf(model, before) == 1
        assert torch.equal(before.z[halted], now.z[halted])
        assert torch.equal(before.h[halted], now.h[halted]) == (name == "ut-act")
        assert (before.h[~halted] != now.h[~halted]).any(-1).all()


def test_remainder_and_ponder_cost_by_hand():
    """Gates 0.3, 0.4, 0.5 halt at the third, with 0.3 left; 0.995 at the first; 0.1 each not at all."""
    loop = UTACT()
    gates = torch.tensor([[0.3, 0.4, 0.5, 0.2], [0.995, 0.5, 0.5, 0.5], [0.1, 0.1, 0.1, 0.1]]).T
    cdf = [torch.zeros(3)]
    for gate in gates:
        cdf.append(loop._add(cdf[-1], gate[:, None]))
    cdf = torch.stack(cdf)
    torch.testing.assert_close(
        cdf.T,
        torch.tensor([[0, 0.3, 0.7, 1, 1], [0, 1, 1, 1, 1], [0, 0.1, 0.2, 0.3, 0.4]]),
    )
    torch.testing.assert_close(ponder_cost(cdf), torch.tensor([3 + 0.3, 1 + 1.0, 4 + 0.7]))
    torch.testing.assert_close(ponder_cost(cdf[:3]), torch.tensor([2 + 0.7, 1 + 1.0, 2 + 0.9]))
    torch.testing.assert_close(ponder_cost(cdf[:2]), torch.tensor([2.0, 2.0, 2.0]))


def test_ponder_cost_pushes_the_gates_before_the_last_step_up():
    gates = [torch.tensor([[[g]]], requires_grad=True) for g in (0.3, 0.4, 0.5)]
    cdf = [torch.zeros(1, 1)]
    for gate in gates:
        cdf.append(UTACT()._add(cdf[-1], gate))
    ponder_cost(torch.stack(cdf)).mean().backward()
    assert [g.grad.item() if g.grad is not None else 0 for g in gates] == [-1, -1, 0]


@torch.no_grad()
def test_the_signal_is_of_position_and_step(tokens):
    assert sinusoids(torch.tensor([3]), torch.zeros(1, 4)).tolist() == [
        pytest.approx([math.sin(3), math.cos(3), math.sin(0.03), math.cos(0.03)])
    ]
    model = make("ut-act", n_ctx=64)
    same = torch.full((1, 6), 7)
    z = model(same, n_iters=1)
    assert (z[0, 1:] - z[0, :1]).abs().amax(-1).min() > 1e-3, "equal tokens are told apart"
    assert not hasattr(model.body[0].attn, "hook_rot_q"), "nothing turns"


def test_settings_out_of_range_are_told():
    for loop, says in ((UTACT(epsilon=1.0), "epsilon"), (UTACT(gate_init=0.0), "gate_init"),
                       (UTACT(ponder_weight=-1.0), "ponder_weight")):  # fmt: skip
        with pytest.raises(ConfigError, match=says):
            make(loop)
    with pytest.raises(ConfigError, match="d_model"):
        make("ut-act", d_model=33)
