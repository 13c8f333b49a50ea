"""Every measure has a known answer somewhere."""

import numpy as np
import pytest
import torch

from abbie_lens.flops import flops_per_token
from abbie_lens.loops import HRM, LT, AbbieC, AbbieD, AdaPonder, Ponder2, Spiral
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from probes.reproduction.measures.attention import MeasureAttention, _one_window, summary
from probes.reproduction.measures.compute import (
    _at_full_resolution,
    body_passes,
    plain_difference,
)
from probes.reproduction.measures.fixed_points import _ratio
from probes.reproduction.measures.gates import exit_at
from probes.reproduction.measures.imposed_masks import AtRandom, Cut, Runs
from probes.reproduction.measures.pondering import _threshold
from probes.reproduction.measures.stability import measure_norms
from probes.reproduction.measures.windows import between, rank_correlation

WHOLE = dict(n_head_blocks=0, n_tail_blocks=0)


@pytest.fixture
def tokens():
    return torch.from_numpy(np.random.default_rng(0).integers(1, 100, (4, 16)))


@pytest.mark.parametrize(
    ("loop", "plain"), [(AbbieD(), True), (AbbieC(), True), (AbbieD("literal"), False)]
)
def test_one_iteration_is_a_plain_transformer_where_it_should_be(tiny_model, tokens, loop, plain):
    assert (plain_difference(tiny_model(loop), tokens) < 1e-5) == plain


def test_passes_count_the_feedback_and_both_stacks_of_a_nest(tiny_model):
    assert body_passes(tiny_model(AbbieD()), 3) == 3
    assert body_passes(tiny_model(AdaPonder(), **WHOLE), 2) == 3
    nest = tiny_model(HRM(low_cycles=3, n_low_blocks=1), **WHOLE, n_body_blocks=4)
    assert body_passes(nest, 2) == 2 * (3 * 1 + 1 * 3) / 4


def test_weights_of_another_shape_are_no_plain_transformer(tiny_model, tokens):
    assert np.isnan(plain_difference(tiny_model(AdaPonder(), **WHOLE), tokens))


def test_full_resolution_costs_what_chunks_of_one_cost(tiny_model):
    coarse, fine = tiny_model(Spiral((4, 1))), tiny_model(Spiral((1, 1)))
    assert flops_per_token(_at_full_resolution(coarse)) == flops_per_token(fine)
    assert flops_per_token(coarse) < flops_per_token(fine)
    assert _at_full_resolution(tiny_model()) is None


def test_attention_on_the_last_token_only_and_on_all_alike():
    n = 8
    own = np.eye(n)[None]
    assert summary(own, 4, 3) == pytest.approx([0.0, 0.0, 1.0])
    even = np.tril(np.ones((n, n)))[None]
    even /= even.sum(-1, keepdims=True)
    span, entropy, local = summary(even, 1, 2)
    assert span == pytest.approx(np.arange(n).mean() / 2)
    assert entropy == pytest.approx(1.0)
    assert local == pytest.approx(np.mean([min(3, i + 1) / (i + 1) for i in range(n)]))
    # The same pattern over chunks of four tokens reaches four times as far.
    assert summary(even, 4, 2)[0] == pytest.approx(4 * span)


def test_the_chunk_is_read_from_the_pattern(tiny_model, tokens):
    values, chunk = _one_window(tiny_model(Spiral((4, 2, 1)), n_iters=3), tokens[:1], 8)
    assert chunk == (4, 2, 1) and values.shape == (3, 3)


def test_the_last_step_over_the_first():
    steps = 0.5 ** np.arange(5)[:, None, None] * np.ones((5, 3, 7))
    assert _ratio(steps) == pytest.approx((1 / 16,) * 3)
    steps[-1, 0] = np.nan
    assert _ratio(steps)[0] == pytest.approx(1 / 16)
    assert np.isnan(_ratio(steps * np.nan)).all()


def test_norms_are_those_of_autograd(tiny_model, tokens):
    model = tiny_model(LT(), n_iters=3, **WHOLE)
    found = measure_norms(Objective(model, Recipe()), tokens, 3)
    loss = model(tokens, n_iters=3, return_type="loss")
    block = model.body[1]
    grads = torch.autograd.grad(loss, [*block.parameters()])
    assert found.gradient[1] == pytest.approx(float(sum(g.square().sum() for g in grads) ** 0.5))
    assert found.loss == pytest.approx(loss.item())
    _, cache = model.run_with_cache(tokens, n_iters=3, names_filter="body.1.hook_resid_post")
    expected = cache["body.1.hook_resid_post"].norm(dim=-1).mean((1, 2))
    assert found.state == pytest.approx(expected.tolist(), rel=1e-5)
    assert all(p.grad is None for p in model.parameters())


@pytest.fixture
def ponder(tiny_model):
    """Gates that really differ between tokens, so that a threshold splits them."""
    model = tiny_model(AdaPonder(max_iters=3, threshold=0.5), n_iters=3, **WHOLE)
    draw = torch.Generator().manual_seed(0)
    for gate in model.loop.gates:
        # Wide enough to differ, not so wide that half of them are exactly 0 and no threshold splits them.
        torch.nn.init.normal_(gate[0].weight, std=0.5, generator=draw)
        torch.nn.init.normal_(gate[2].weight, std=0.5, generator=draw)
    return model


def own(i, first, mask, gate):
    return mask


def test_the_models_own_mask_changes_nothing(ponder, tokens):
    run = Runs(ponder, tokens, 3)(own)
    nll = ponder(tokens, return_type="loss", loss_per_token=True)
    assert run.nll == pytest.approx(nll.detach().numpy(), abs=1e-6)
    assert 0 < run.updates.mean() < 3


def test_all_updates_denied_is_no_update(ponder, tokens):
    run = Runs(ponder, tokens, 4)(lambda i, first, mask, gate: torch.zeros_like(mask))
    nll = ponder(tokens, n_iters=0, return_type="loss", loss_per_token=True)
    assert run.nll == pytest.approx(nll.detach().numpy(), abs=1e-5)
    assert (run.updates == 0).all()


def test_who_has_halted_stays_halted(ponder, tokens):
    run = Runs(ponder, tokens, 4)(lambda i, first, mask, gate: torch.full_like(mask, float(i != 1)))
    assert (run.updates == 1).all()


def test_random_pruning_takes_as_many_updates(ponder, tokens):
    updates = np.array([[0, 1, 2, 3]] * 4)
    many = tokens.repeat(32, 1)
    run = Runs(ponder, many, 16)(AtRandom(updates, 3, seed=0))
    assert run.updates.mean() == pytest.approx(1.5, abs=0.1)
    shares = np.bincount(run.updates.ravel().astype(int), minlength=4) / run.updates.size
    assert shares == pytest.approx([0.25] * 4, abs=0.05)
    again = Runs(ponder, many, 16)(AtRandom(updates, 3, seed=0))
    assert (again.updates == run.updates).all()


def test_a_cut_leaves_the_mean_updates_it_was_chosen_for(ponder, tokens):
    runs = Runs(ponder, tokens, 4)
    free = runs(lambda i, first, mask, gate: torch.ones_like(mask))
    cut = _threshold(free.gates, 0.5 * 3)
    running = np.minimum.accumulate(free.gates, axis=0)
    assert (running >= cut).sum(0).mean() == pytest.approx(1.5, abs=0.05)
    # Run for real, halted tokens change what the others see, hence their gates.
    assert runs(Cut(cut)).updates.mean() == pytest.approx(1.5, abs=0.5)


def test_fixed_pruning_between_two_depths():
    fixed = [np.full((2, 3), level) for level in (5.0, 4.0, 3.5)]
    for updates, level in ((0.0, 5.0), (0.25, 4.75), (1.5, 3.75), (2.0, 3.5)):
        assert between(fixed, updates) == pytest.approx(np.full((2, 3), level))


def test_rank_correlation_of_equal_updates_is_undefined():
    y = np.random.default_rng(0).normal(size=(20, 30))
    assert np.isnan(rank_correlation(np.full((20, 30), 2.0), y)).all()
    assert rank_correlation(np.exp(y), y) == pytest.approx((1.0,) * 3)


def test_a_gate_that_knows_which_tokens_are_hard_beats_equal_depth_and_chance():
    easy = np.arange(40).reshape(4, 10) % 2 == 0
    nll = np.stack([np.full((4, 10), 5.0), np.where(easy, 1.0, 4.0), np.where(easy, 1.0, 2.0)])
    knows = np.stack([np.zeros((4, 10)), np.where(easy, 0.9, 0.1), np.ones((4, 10))])
    found = exit_at(knows, nll, 0.5)
    assert (found.mean_steps, found.nll) == (1.5, 1.5)
    assert found.over_full[0] == 0
    assert found.over_fixed[0] == pytest.approx(1.5 - (2.5 + 1.5) / 2)
    assert found.over_random == pytest.approx(-0.5)
    blind = exit_at(np.stack([np.zeros((4, 10)), np.ones((4, 10)), np.ones((4, 10))]), nll, 0.5)
    assert blind.mean_steps == 1 and blind.over_fixed == (0, 0, 0) and blind.over_random == 0
    never = exit_at(np.zeros((3, 4, 10)), nll, 0.5)
    assert never.mean_steps == 2 and never.over_full == (0, 0, 0)


def test_attention_needs_one_mean_a_loop(tiny_model, tokens):
    nest = tiny_model(HRM(), **WHOLE, n_body_blocks=4).cfg
    assert MeasureAttention().parts("hrm", nest) == ()
    doubled = tiny_model(Ponder2(), **WHOLE, n_iters=3)
    assert MeasureAttention().parts("ponder-2", doubled.cfg) == ("attention",)
    values, chunk = _one_window(doubled, tokens[:1], 8)
    assert chunk == (1, 0.5, 0.5) and values[0].max() <= tokens.shape[1]
