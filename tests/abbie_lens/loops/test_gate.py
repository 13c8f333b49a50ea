"""Exit distributions by hand: they sum to 1 at every planned depth, and their entropies and divergences are the formulas."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from abbie_lens.loops import AdaPonder, Ouro, PonderNet
from abbie_lens.loops.shared.gate import (
    cdf_of_hazards,
    entropy,
    exit_distribution,
    expected,
    geometric,
    kl_divergence,
)
from tests.abbie_lens.families import make, walk

QUARTER_HALF = [torch.tensor([0.25]), torch.tensor([0.5]), torch.tensor([0.9])]


def test_the_last_iteration_takes_what_is_left_whatever_its_gate_says():
    cdf = cdf_of_hazards(QUARTER_HALF)[:, 0]
    torch.testing.assert_close(cdf, torch.tensor([0, 0.25, 0.625, 0.9625]))
    torch.testing.assert_close(exit_distribution(cdf), torch.tensor([0, 0.25, 0.375, 0.375]))
    torch.testing.assert_close(exit_distribution(cdf[:2]), torch.tensor([0.0, 1.0]))
    assert exit_distribution(cdf[:1]).tolist() == [1.0]


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=12))
def test_probabilities_sum_to_one_and_the_cdf_never_falls(gates):
    cdf = cdf_of_hazards([torch.tensor(gate) for gate in gates])
    assert (cdf.diff() >= 0).all() and cdf.min() >= 0 and cdf.max() <= 1
    for r in range(len(gates) + 1):
        p = exit_distribution(cdf[: r + 1])
        assert p.sum().item() == pytest.approx(1, abs=1e-6) and (p >= 0).all()
        assert 0 <= entropy(p) + 1e-6 <= math.log(r + 1) + 1e-5


def test_entropy_and_divergence_of_known_distributions():
    p = torch.tensor([0.0, 0.5, 0.25, 0.25])
    assert entropy(p).item() == pytest.approx(1.5 * math.log(2))
    prior = geometric(3, 0.5, p)
    assert prior.tolist() == [0.0, 0.5, 0.25, 0.25]
    assert kl_divergence(p, prior).item() == pytest.approx(0, abs=1e-7)
    prior = geometric(3, 0.2, p)
    torch.testing.assert_close(prior, torch.tensor([0.0, 0.2, 0.16, 0.64]))
    by_hand = (
        0.5 * math.log(0.5 / 0.2) + 0.25 * math.log(0.25 / 0.16) + 0.25 * math.log(0.25 / 0.64)
    )
    assert kl_divergence(p, prior).item() == pytest.approx(by_hand, rel=1e-6)
    assert expected(p, torch.tensor([9.0, 1.0, 2.0, 3.0])).item() == pytest.approx(1.75)
    assert geometric(0, 0.3, p).tolist() == [1.0] and geometric(1, 0.3, p).tolist() == [0.0, 1.0]


def test_a_saturated_gate_has_finite_gradients():
    gates = torch.tensor([1.0, 0.5, 0.0], requires_grad=True)
    p = exit_distribution(cdf_of_hazards(list(gates)))
    (entropy(p) + kl_divergence(p, geometric(3, 0.2, p))).backward()
    assert gates.grad.isfinite().all()


def state_of(*gates):
    """The end of a run of one sequence of one token with these gate values."""
    carry = {"gates": tuple(torch.tensor([[[gate]]], requires_grad=True) for gate in gates)}
    return SimpleNamespace(k=len(gates), carry=carry, h=torch.zeros(1, 1, 2))


def test_pondernets_penalty_by_hand():
    """p = (1/4, 3/8, 3/8) against Geom(0.2) cut at 3: (0.2, 0.16, 0.64)."""
    by_hand = (
        0.25 * math.log(0.25 / 0.2)
        + 0.375 * math.log(0.375 / 0.16)
        + 0.375 * math.log(0.375 / 0.64)
    )
    found = PonderNet(prior_weight=0.5).penalty(state_of(0.25, 0.5, 0.9), 0.3)
    assert found.item() == pytest.approx(0.5 * by_hand, rel=1e-5)
    assert PonderNet().penalty(state_of(0.4), 0.3) is None
    assert PonderNet(prior_weight=0.0).penalty(state_of(0.4, 0.4), 0.3) is None


def test_ouros_penalty_rewards_entropy_less_and_less():
    h = -(0.25 * math.log(0.25) + 0.75 * math.log(0.375))
    for progress, beta in ((0.0, 0.1), (0.5, 0.075), (1.0, 0.05)):
        found = Ouro().penalty(state_of(0.25, 0.5, 0.9), progress)
        assert found.item() == pytest.approx(-beta * h, rel=1e-5)
    assert Ouro().penalty(state_of(0.4), 0.0) is None


def test_ouros_gate_learns_to_go_on_where_that_gained():
    """I = 0.105, then 0: wanted are sigmoid(5) and sigmoid(-0.25), from loops 2 and 3 on."""
    gates = [torch.tensor([[[g], [0.99]]], requires_grad=True) for g in (0.3, 0.2, 0.6)]
    nll = torch.tensor([0.0, 1.105, 1.0, 1.5])[:, None, None]
    state = SimpleNamespace(k=3, carry={"gates": tuple(gates)})
    wanted = [1 / (1 + math.exp(-5)), 1 / (1 + math.exp(0.25))]
    by_hand = sum(
        -w * math.log(1 - g) - (1 - w) * math.log(g)
        for w, g in zip(wanted, (0.2, 0.6), strict=True)
    )
    loss = Ouro().gate_loss(state, nll)
    assert loss.item() == pytest.approx(by_hand / 2, rel=1e-5)
    loss.backward()
    assert not gates[0].grad.any() and gates[1].grad[0, 0] > 0 > -gates[2].grad[0, 0]
    assert not gates[1].grad[0, 1], "the last token has no next one"
    one = SimpleNamespace(k=1, carry={"gates": tuple(gates[:1])})
    assert Ouro().gate_loss(one, nll[:2]).item() == 0
    skipped = Ouro().gate_loss(state, nll.clone().fill_(float("nan")))
    assert skipped.item() == 0, "a token that is not counted teaches nothing"


@pytest.mark.parametrize("name", ["ouro", "pondernet", "ut-act", "adaponder"])
@torch.no_grad()
def test_the_cdf_rises_with_k_and_its_gates_are_a_site(tokens, name):
    model = make(name)
    loop, states = model.cfg.loop, walk(model, tokens, 3)
    cdf = torch.stack([loop.exit_cdf(model, state) for state in states])
    assert cdf.shape == (4, 2, 9) and (cdf.diff(dim=0) >= 0).all()
    assert loop.gated and not make("abbie-d").cfg.loop.gated
    gate = model.run_with_cache(tokens, n_iters=3)[1]["loop.hook_gate"]
    assert gate.shape == (3, 2, 9, 1)
    if name in ("ouro", "pondernet"):
        torch.testing.assert_close(cdf, cdf_of_hazards(list(gate[..., 0])))
        for k in range(3):
            read = model.ln_final(states[k + 1].h) if name == "pondernet" else states[k + 1].h
            torch.testing.assert_close(gate[k], model.loop.gate(read).sigmoid())


@torch.no_grad()
def test_a_hook_on_the_gate_moves_the_exit_and_nothing_else(tokens):
    model = make("ouro")
    clean = walk(model, tokens, 2)[-1]
    with model.hooks([("loop.hook_gate@1", lambda gate, hook: torch.ones_like(gate))]):
        moved = walk(model, tokens, 2)[-1]
    assert (model.cfg.loop.exit_cdf(model, moved) == 1).all()
    assert (model.cfg.loop.exit_cdf(model, clean) < 1).all()
    assert torch.equal(moved.h, clean.h)


@torch.no_grad()
def test_adaponders_cdf_is_whether_the_next_gate_stops_the_token(tokens):
    model = make("adaponder")
    fired = []
    states = walk(model, tokens, 3)
    with model.hooks([("loop.hook_gate", lambda gate, hook: fired.append(hook.iteration))]):
        cdf = [model.cfg.loop.exit_cdf(model, state) for state in states]
    assert not fired
    for k in range(3):
        assert torch.equal(cdf[k], 1 - states[k + 1].carry["active"].float())
    assert torch.equal(cdf[3], cdf[2]), "no gate is left to ask"
    assert 0 < cdf[0].mean() < 1, "some tokens halt, or this shows nothing"
    again = make(AdaPonder(max_iters=1, beyond="repeat_last", threshold=0.3, gate_init=0.5))
    later = walk(again, tokens, 2)
    assert torch.equal(
        again.cfg.loop.exit_cdf(again, later[1]), 1 - later[2].carry["active"].float()
    )
