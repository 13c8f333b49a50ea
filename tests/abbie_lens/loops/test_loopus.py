"""LoopUS against its equation: the update gate, the confidence, what the head learns, and random supervision."""

import pytest
import torch
import torch.nn.functional as F

from abbie_lens.errors import ConfigError
from abbie_lens.loops import LoopUS
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out

close = dict(atol=5e-5, rtol=1e-5)


def equations(model, tokens, n_iters):
    """(h, q) after 0 … n_iters iterations; q is None at first."""
    h, loop = blocks(model.head, model.embed.weight[tokens]), model.loop
    yield h, None
    for _ in range(n_iters):
        b = blocks(model.body, h)
        small = (b - h) @ loop.update_gate.dt_in.weight.T
        step = F.softplus(small @ loop.update_gate.dt_out.weight.T + loop.update_gate.dt_out.bias)
        a = torch.exp(-step * loop.update_gate.A_log.exp())
        before, h = h, a * b + (1 - a) * h
        read = h if model.cfg.loop.confidence == "state" else b - before
        norm, line = loop.confidence
        centred = (read - read.mean(-1, keepdim=True)) / (
            read.var(-1, correction=0, keepdim=True) + norm.eps
        ).sqrt()
        q = ((centred * norm.weight + norm.bias) @ line.weight.T + line.bias).sigmoid()
        yield h, q


def moved(name):
    """A model whose parameters of one axis are not at their start."""
    model = make(name)
    generator = torch.Generator().manual_seed(4)
    with torch.no_grad():
        for parameter in model.loop.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.mark.parametrize("name", ["loopus", "loopus-change"])
@torch.no_grad()
def test_every_state_and_confidence_is_the_equations(tokens, name):
    model = moved(name)
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    survives = torch.ones(tokens.shape)
    for state, (h, q) in zip(walk(model, tokens, 3), equations(model, tokens, 3), strict=True):
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, h), **close)
        if q is not None:
            torch.testing.assert_close(cache[f"loop.hook_gate@{state.k - 1}"], q, **close)
            survives = survives * (1 - q[..., 0])
        stopped = model.cfg.loop.exit_cdf(model, state)
        torch.testing.assert_close(stopped, 1 - survives, **close)
    assert stopped.min() > 0 and stopped.max() < 1


@torch.no_grad()
def test_a_of_one_takes_the_new_value_and_a_of_zero_keeps_the_old(tokens):
    model = make("loopus")
    state = model.begin(tokens, 1)
    b = blocks(model.body, state.h)
    for gate, expected in ((1.0, b), (0.0, state.h)):
        with model.hooks(
            [("loop.hook_update_gate", lambda a, hook, g=gate: torch.full_like(a, g))]
        ):
            torch.testing.assert_close(model.step(state).h, expected, **close)


@torch.no_grad()
def test_the_gate_starts_where_the_setting_says_and_its_rank_is_a_sixteenth(tokens):
    for start in (0.2, 0.9):
        model = make(LoopUS(update_init=start))
        torch.nn.init.zeros_(model.loop.update_gate.dt_out.weight)
        a = model.run_with_cache(tokens, n_iters=1)[1]["loop.hook_update_gate"]
        torch.testing.assert_close(a, torch.full_like(a, start))
        assert a.shape == (1, 2, 9, 32)
    assert model.loop.update_gate.dt_in.weight.shape == (2, 32)
    assert make("loopus-change").loop.update_gate.dt_in.weight.shape == (3, 32)


def test_the_head_learns_whether_the_read_out_is_right_and_moves_nothing_else(tokens):
    model = make(LoopUS(gate_weight=0.5)).train()
    counted = torch.zeros(2, 9, dtype=torch.bool)
    counted[0, 3:6] = counted[1, 8] = True
    tokens = tokens.clone()
    with torch.no_grad():  # one prediction that is right
        tokens[0, 5] = model(tokens, n_iters=2)[0, 4].argmax()
    loss, nll = Objective(model, Recipe(loss="step"))(tokens, counted, 2, 0.0)
    expected = []
    for k, (h, q) in enumerate(equations(model, tokens, 2)):
        if k:
            right = read_out(model, h)[:, :-1].argmax(-1) == tokens[:, 1:]
            terms = -torch.where(right, q[:, :-1, 0].log(), (1 - q[:, :-1, 0]).log())
            expected.append(terms[counted[:, 1:]].mean())
    assert right[0, 4], "some are right"
    torch.testing.assert_close(loss - nll, 0.5 * torch.stack(expected).mean(), **close)
    plain = make(LoopUS(gate_weight=0.0)).train()
    without, _ = Objective(plain, Recipe(loss="step"))(tokens, counted, 2, 0.0)
    loss.backward(), without.backward()
    mine, theirs = dict(model.named_parameters()), dict(plain.named_parameters())
    for name, parameter in theirs.items():
        if parameter.numel():
            same = torch.allclose(mine[name].grad, parameter.grad, atol=1e-7)
            assert same != name.startswith("loop.confidence"), name


def test_supervised_iterations_are_drawn_anew_every_step_and_alike_in_every_run():
    recipe = Recipe(loss="random", n_supervised=5)
    drawn = [recipe.trained_depths(20, 0, step) for step in range(400)]
    assert drawn == [recipe.trained_depths(20, 0, step) for step in range(400)]
    assert all(len(set(d)) == 5 and d == sorted(d) and 1 <= d[0] <= d[-1] <= 20 for d in drawn)
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=21)[1:]
    # 400 x 5 / 20 = 100 each; binomial, four standard deviations
    assert counts.sum() == 2000 and (counts - 100).abs().max() < 4 * (400 * 0.25 * 0.75) ** 0.5
    assert drawn != [recipe.trained_depths(20, 1, step) for step in range(400)]
    assert recipe.trained_depths(3, 0, 1) == [1, 2, 3] and recipe.trained_depths(0, 0, 1) == [0]
    late = Recipe(loss="random", n_supervised=2, backprop_depth=4)
    assert {k for step in range(50) for k in late.trained_depths(20, 0, step)} == {17, 18, 19, 20}


def test_random_supervision_trains_the_read_outs_that_were_drawn(tokens):
    model, recipe = make("loopus"), Recipe(loss="random", n_supervised=2)
    drawn = recipe.trained_depths(6, 3, 8)
    _, nll = Objective(model, recipe)(tokens, None, 6, 0.0, (3, 8))
    each = [model(tokens, n_iters=k, return_type="loss") for k in drawn]
    torch.testing.assert_close(nll, torch.stack(each).mean().detach())
    assert LoopUS.recipe["loss"] == "random" and LoopUS.shape(32)["n_iters"] == 8


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"dt_rank": 0}, "dt_rank=0: expected at least 1"),
        ({"update_init": 1.0}, "update_init=1.0: expected between 0 and 1"),
        ({"confidence": "logits"}, "confidence='logits': expected one of"),
        ({"gate_weight": -1.0}, "gate_weight=-1.0: expected a number >= 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        make(LoopUS(**settings))
    with pytest.raises(ConfigError, match="n_supervised=0"):
        Recipe(n_supervised=0)


def test_the_gate_stage_trains_the_head_alone(tokens):
    model, recipe = make("loopus"), Recipe(loss="random", stage="gate")
    recipe.check(model.cfg)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("loop.confidence."))
    loss, nll = Objective(model, recipe)(tokens, None, 3, 0.0)
    loss.backward()
    assert loss > nll
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert moved == {name for name, _ in model.named_parameters() if "confidence" in name}
