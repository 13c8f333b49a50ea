"""Ouro's loop, gate and exits against what the original code made of a tiny model in the public format."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.loops.shared.gate import exit_distribution, expected
from abbie_lens.losses import next_token_nll
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "ouro")


@pytest.fixture(scope="module")
def model(shared_fixtures):
    return load(shared_fixtures / "ouro", device="cpu")


@pytest.fixture(scope="module")
def states(model, original):
    return walk(model, original.tokens, 4)


@torch.no_grad()
def test_states_readouts_and_logits_of_every_loop(model, original, states):
    expected = original.expected
    torch.testing.assert_close(states[0].h, expected["embeds"], **CLOSE)
    for k in range(1, 5):
        torch.testing.assert_close(states[k].z, expected["states_pre_norm"][k - 1], **CLOSE)
        torch.testing.assert_close(states[k].h, expected["states"][k - 1], **CLOSE)
        logits = expected["logits_per_step"][k - 1]
        torch.testing.assert_close(model.readout(states[k]), logits, **CLOSE)
    for r in (1, 2, 4):
        torch.testing.assert_close(
            model(original.tokens, n_iters=r), expected[f"logits_T{r}"], **CLOSE
        )


@torch.no_grad()
def test_gates_and_exit_distributions(model, original, states):
    cdf = torch.stack([model.cfg.loop.exit_cdf(model, state) for state in states])
    _, cache = model.run_with_cache(original.tokens, n_iters=4, names_filter="loop.hook_gate")
    gates = cache["loop.hook_gate"][..., 0]
    torch.testing.assert_close(gates.logit(), original.expected["gate_logits"], **CLOSE)
    for r in (1, 2, 4):
        p = exit_distribution(cdf[: r + 1])
        assert not p[0].any()
        torch.testing.assert_close(p[1:], original.expected[f"exit_pdf_T{r}"], **CLOSE)


@pytest.mark.parametrize("q", [0.3, 0.6])
@torch.no_grad()
def test_exits_by_the_halting_rule(model, original, q):
    import probes

    replay = probes.halting(model, original.tokens, 4, rules=["learned_gate"])
    steps = torch.tensor(replay.at("learned_gate", q).exit_step)
    assert torch.equal(steps - 1, original.expected[f"exit_step_q{q}"].long()), (
        "theirs count from 0"
    )
    logits = torch.stack([model(original.tokens, n_iters=k) for k in range(5)])
    there = logits.gather(0, steps[None, ..., None].expand(1, *steps.shape, 128))[0]
    torch.testing.assert_close(there, original.expected[f"logits_exit_q{q}"], **CLOSE)


@torch.no_grad()
def test_weighted_logits_and_their_loss(model, original, states):
    """The original code, given labels, takes the loss of the mean logits; the mean loss that is trained is never below it."""
    cdf = torch.stack([model.cfg.loop.exit_cdf(model, state) for state in states])
    logits = torch.stack([model.readout(state) for state in states])
    weighted = expected(exit_distribution(cdf)[..., None], logits)
    torch.testing.assert_close(weighted, original.expected["logits_weighted"], **CLOSE)
    loss = next_token_nll(weighted, original.tokens)
    torch.testing.assert_close(loss, original.expected["loss_weighted"][0], **CLOSE)
    recipe = Recipe(**model.cfg.loop.recipe)
    assert Objective(model, recipe)(original.tokens, None, 4, 0.0)[1] >= loss
