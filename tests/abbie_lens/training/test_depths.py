"""Depths that are drawn: one for each sequence, truncated at its own end, and a mean that rises over the run."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.loops import Parcae, Retrofit
from abbie_lens.training import train
from abbie_lens.training.data import prepare
from abbie_lens.training.depths import rising_mean
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from abbie_lens.training.trainer import Trainer
from tests.abbie_lens.families import make

DEPTHS = [4, 1, 2, 4, 3]
QUIET = dict(on_progress=lambda now: None)


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (5, 7), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("loss", ["end", "step", "few"])
@pytest.mark.parametrize("name", ["parcae", "huginn", "abbie-d", "ponder", "spiral"])
def test_a_rows_loss_is_that_of_a_run_of_its_own(tokens, name, loss):
    objective = Objective(make(name), Recipe(loss=loss))
    together, nll = objective(tokens, None, DEPTHS, 1.0)
    alone = [objective(tokens[b : b + 1], None, r, 1.0)[0] for b, r in enumerate(DEPTHS)]
    torch.testing.assert_close(together, torch.stack(alone).mean())
    assert torch.equal(nll, together.detach()) and not nll.requires_grad
    one_depth = objective(tokens, None, 3, 1.0)[0]
    assert torch.equal(objective(tokens, None, [3] * 5, 1.0)[0], one_depth)
    assert not torch.isclose(together, one_depth, rtol=1e-5)


def test_every_counted_token_weighs_the_same(tokens):
    model = make("parcae")
    counted = torch.zeros(5, 7, dtype=torch.bool)
    counted[0, 2:5] = counted[2, 6] = counted[4, 0] = True  # nothing comes before row 4's
    loss, _ = Objective(model, Recipe())(tokens, counted, DEPTHS, 1.0)
    log_p = {b: model(tokens[b : b + 1], n_iters=DEPTHS[b]).log_softmax(-1)[0] for b in (0, 2)}
    expected = [-log_p[b][t - 1, tokens[b, t]] for b, t in ((0, 2), (0, 3), (0, 4), (2, 6))]
    torch.testing.assert_close(loss, torch.stack(expected).mean())


def gradients(model, tokens, n_iters, backprop_depth):
    model.zero_grad()
    Objective(model, Recipe(backprop_depth=backprop_depth))(tokens, None, n_iters, 1.0)[
        0
    ].backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["parcae", "abbie-d", "spiral"])
def test_gradients_stop_at_each_rows_own_truncation(tokens, name):
    model = make(name)
    together = gradients(model, tokens, DEPTHS, 2)
    total = {n: torch.zeros_like(p) for n, p in model.named_parameters()}
    for b, r in enumerate(DEPTHS):
        for parameter, g in gradients(model, tokens[b : b + 1], r, 2).items():
            total[parameter] += g / len(DEPTHS)
    for parameter, g in together.items():
        torch.testing.assert_close(g, total[parameter], atol=1e-5, rtol=1e-4, msg=parameter)
    whole = gradients(model, tokens, DEPTHS, None)
    moved = [n for n in together if not torch.allclose(together[n], whole[n], atol=1e-4)]
    assert any(n.startswith("body.") for n in moved)


def test_each_body_application_of_a_row_is_in_the_gradient_or_not(tokens):
    """The rows of depth 4 carry gradient in their last two iterations, those of depth 1 and 2 in all of them."""
    model, seen = make("parcae"), []
    keep = lambda x, hook: seen.append((len(x), hook.iteration, x))  # noqa: E731
    with model.hooks([("body.1.hook_resid_post", keep)]):
        loss, _ = Objective(model, Recipe(backprop_depth=2))(tokens, None, DEPTHS, 1.0)
    outputs = [x for *_, x in seen if x.requires_grad]
    carried = torch.autograd.grad(loss, outputs)
    assert all(g.any() for g in carried)
    # By depth, shallow ones first; two rows have depth 4.
    assert [(n, k, x.requires_grad) for n, k, x in seen] == [
        (1, 0, True),
        (1, 0, True), (1, 1, True),
        (1, 0, False), (1, 1, True), (1, 2, True),
        (2, 0, False), (2, 1, False), (2, 2, True), (2, 3, True),
    ]  # fmt: skip


def test_the_drawn_depths_are_poissons_and_at_least_one():
    recipe, n = Recipe.from_dict(Parcae.recipe), 100_000
    assert (recipe.depth, recipe.backprop_depth) == ("poisson_per_sequence", 4)
    draws = np.array(recipe.row_depths(8, 0, 0, 0.0, n))
    assert draws.min() == 1
    assert draws.mean() == pytest.approx(8 + math.exp(-8), abs=4 * math.sqrt(8 / n))
    shallow = np.array(recipe.row_depths(1, 0, 0, 0.0, n))
    share = 2 * math.exp(-1)  # 0 counts as 1
    assert (shallow == 1).mean() == pytest.approx(share, abs=4 * math.sqrt(share / n))


def test_draws_are_a_function_of_seed_step_and_row():
    recipe = Recipe(depth="poisson_per_sequence")
    draw = lambda seed, step, n=8: recipe.row_depths(6, seed, step, 0.5, n)  # noqa: E731
    assert draw(0, 3) == draw(0, 3) and len(set(draw(0, 3))) > 1
    assert draw(0, 3) != draw(0, 4) and draw(0, 3) != draw(1, 3)
    assert Recipe(depth="lognormal_poisson").row_depths(6, 0, 3, 0.5, 4) == [
        Recipe(depth="lognormal_poisson").n_iters(6, 0, 3)
    ] * 4  # fmt: skip
    assert Recipe().row_depths(6, 0, 3, 0.5, 2) == [6, 6]


def test_processes_and_micro_batches_share_one_draw(settings, tmp_path):
    """Each row of the global batch has its depth, wherever it is computed."""
    drawn = {}
    for n_processes, micro in ((1, None), (1, 2), (2, 1)):
        depths = []
        for index in range(n_processes):
            here = SimpleNamespace(
                process_index=index, num_processes=n_processes, device=torch.device("cpu"),
                prepare_model=lambda module: module, backward=lambda loss: loss.backward(),
                no_sync=lambda module: torch.enable_grad(),
            )  # fmt: skip
            config = settings(
                tmp_path / "run",
                micro_batch_size=micro,
                recipe={"depth": "poisson_per_sequence"},
                model=dict(d_model=16, n_heads=2, n_ctx=24, n_iters=3, d_mlp=32),
            )
            trainer = Trainer(config, prepare(config, tmp_path / "data"), here)
            forward = trainer.objective.forward

            def watched(tokens, counted, n_iters, progress, draw, forward=forward, depths=depths):
                if not isinstance(n_iters, int):
                    depths += n_iters
                return forward(tokens, counted, n_iters, progress, draw)

            trainer.objective.forward = watched
            trainer.step(5)
        drawn[n_processes, micro] = depths
    assert drawn[1, None] == drawn[1, 2] == drawn[2, 1] and len(drawn[1, None]) == 8
    assert len(set(drawn[1, None])) > 1


RUN = dict(
    model=dict(
        d_model=16, n_heads=2, n_ctx=24, n_iters=3, d_mlp=32, loop={"family": "abbie-d"},
    ),
    recipe={"depth": "poisson_per_sequence", "backprop_depth": 2},
)  # fmt: skip


def test_micro_batches_change_nothing_but_rounding(settings, losses, tmp_path):
    train(settings(tmp_path / "whole", **RUN), **QUIET)
    train(settings(tmp_path / "parts", micro_batch_size=2, **RUN), **QUIET)
    assert losses(tmp_path / "parts") == pytest.approx(losses(tmp_path / "whole"), abs=1e-4)


@pytest.mark.parametrize("family", ["parcae", "retrofit"])
def test_an_interrupted_run_draws_what_it_would_have_drawn(settings, losses, tmp_path, family):
    model = dict(d_model=16, n_heads=2, n_ctx=24, n_iters=3, d_mlp=32, loop={"family": family})
    train(settings(tmp_path / "whole", model=model), **QUIET)

    def stop(now):
        if now.step == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(tmp_path / "cut", model=model), on_progress=stop)
    train(settings(tmp_path / "cut", model=model, resume=True), **QUIET)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


@pytest.mark.parametrize("shape", ["linear", "1-sqrt"])
def test_the_mean_depth_rises_to_the_trained_one(shape):
    recipe = Recipe(depth="curriculum", curriculum=shape, curriculum_share=0.5)
    rise = {"linear": lambda x: x, "1-sqrt": lambda x: 1 - (1 - x) ** 0.5}[shape]
    means = [rising_mean(recipe, 32, t / 100) for t in range(101)]
    for t in range(1, 50):
        assert means[t] == max(1, math.ceil(32 * rise(t / 50) - 1e-9))
    assert means[0] == 1 and means == sorted(means) and set(means[50:]) == {32}
    assert means[25] == (16 if shape == "linear" else 10)
    assert rising_mean(Recipe(depth="curriculum", curriculum_share=0.0), 7, 0.0) == 7


def test_depths_are_drawn_around_the_risen_mean():
    recipe = Recipe.from_dict(Retrofit.recipe)
    assert (recipe.depth, recipe.backprop_depth) == ("curriculum", 8)
    for progress, mean in ((0.0, 1), (0.125, 4), (0.25, 8), (1.0, 8)):
        draws = np.array([recipe.n_iters(8, 0, step, progress) for step in range(20_000)])
        variance = mean + mean**2 * (math.exp(0.25) - 1)
        tolerance = 4 * math.sqrt(variance / len(draws))
        assert draws.mean() == pytest.approx(mean + 1, abs=tolerance)


def test_the_trainer_says_how_far_the_run_is(settings, tmp_path, monkeypatch):
    asked = []
    draw = Recipe.row_depths

    def watched(self, trained, seed, step, progress, n_rows):
        asked.append((step, progress, n_rows))
        return draw(self, trained, seed, step, progress, n_rows)

    monkeypatch.setattr(Recipe, "row_depths", watched)
    train(settings(tmp_path / "run"), **QUIET)
    assert asked == [(step, step / 24, 8) for step in range(24)]


def test_a_curriculum_cannot_be_resumed_at_another_length(settings, tmp_path):
    """Its mean depends on the share of the run, so the curve so far would be another."""
    recipe = {"depth": "curriculum"}

    def stop(now):
        if now.step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(settings(tmp_path / "run", recipe=recipe), on_progress=stop)
    longer = dict(recipe=recipe, resume=True, train_tokens=48 * 8 * 23)
    with pytest.raises(ConfigError, match="curriculum"):
        train(settings(tmp_path / "run", **longer), **QUIET)
