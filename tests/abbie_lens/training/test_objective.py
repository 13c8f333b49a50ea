"""What a step minimises: END, STEP and FEW by hand, truncated gradients, and STARS against an exact Jacobian."""

import itertools

import pytest
import torch

from abbie_lens.errors import ConfigError
from abbie_lens.loops import FAMILIES, AdaPonder, Huginn, Ponder
from abbie_lens.losses import next_token_nll
from abbie_lens.training import TrainConfig
from abbie_lens.training.objective import Objective, jacobian_penalty
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import LOOPS, make, walk


@pytest.fixture
def tokens():
    return torch.randint(0, 100, (2, 6), generator=torch.Generator().manual_seed(1))


def nll_at(model, tokens, n_iters):
    """Mean NLL of a run of `n_iters` iterations, from the definition."""
    log_p = model(tokens, n_iters=n_iters)[:, :-1].log_softmax(-1)
    return -log_p.gather(-1, tokens[:, 1:, None]).mean()


@pytest.mark.parametrize(
    ("loss", "n_iters", "depths"),
    [
        ("end", 6, [6]), ("step", 3, [1, 2, 3]), ("few", 6, [5, 6]), ("few", 4, [3, 4]),
        ("few", 1, [1]), ("few", 3, [3]), ("end", 0, [0]), ("step", 0, [0]), ("few", 0, [0]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["flt", "abbie-d"])
def test_the_loss_is_the_mean_over_the_chosen_loops(tokens, name, loss, n_iters, depths):
    """FEW takes loops 2K//3 … K - 1, counted from 0."""
    model = make(name)
    minimised, nll = Objective(model, Recipe(loss=loss))(tokens, None, n_iters, 1.0)
    expected = torch.stack([nll_at(model, tokens, k) for k in depths]).mean()
    torch.testing.assert_close(minimised, expected)
    assert torch.equal(nll, minimised.detach()) and not nll.requires_grad


@pytest.mark.parametrize("name", ["ouro", "pondernet", "ut-act", "adaponder"])
def test_the_loss_by_exit_is_the_mean_under_the_gates_own_distribution(tokens, name):
    """Written out: p from F, the NLL of a run to each depth, token by token."""
    model, r = make(name), 3
    counted = torch.ones(2, 6, dtype=torch.bool)
    counted[0, 2] = counted[1, 5] = False
    loss, nll = Objective(model, Recipe(loss="exit"))(tokens, counted, r, 0.5)
    with torch.no_grad():
        states = walk(model, tokens, r)
        cdf = [model.cfg.loop.exit_cdf(model, state) for state in states]
        total = torch.zeros(2, 5)
        for k in range(r + 1):
            p = (1 if k == r else cdf[k]) - (cdf[k - 1] if k else 0)
            log_p = model(tokens, n_iters=k)[:, :-1].log_softmax(-1)
            total -= p[:, :-1] * log_p.gather(-1, tokens[:, 1:, None])[..., 0]
        penalty = model.cfg.loop.penalty(states[-1], 0.5)
    torch.testing.assert_close(nll, total[counted[:, 1:]].mean())
    torch.testing.assert_close(loss.detach(), nll + (0 if penalty is None else penalty))
    loss.backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.numel()
    )


def test_in_the_gates_stage_ouro_minimises_the_gates_own_loss(tokens):
    model = make("ouro")
    loss, nll = Objective(model, Recipe(loss="exit", stage="gate"))(tokens, None, 3, 0.5)
    each = torch.stack(
        [model(tokens, n_iters=k, return_type="loss", loss_per_token=True) for k in range(4)]
    ).detach()
    state = walk(model, tokens, 3)[-1]
    torch.testing.assert_close(loss.detach(), model.cfg.loop.gate_loss(state, each))
    torch.testing.assert_close(nll, Objective(model, Recipe(loss="exit"))(tokens, None, 3, 0.5)[1])
    loss.backward()
    assert model.loop.gate.weight.grad.any()


@pytest.mark.parametrize(
    ("name", "recipe", "says"),
    [
        ("abbie-d", {"loss": "exit"}, "loss='exit': .*abbie-d has no learned gate"),
        ("abbie-d", {"stage": "gate"}, "stage='gate': .*abbie-d has no gate of its own"),
        ("ouro", {"stage": "gate", "loss": "end"}, "loss='end': .*learns from every read-out"),
        ("ouro", {"stage": "gates"}, "stage='gates'"),
        ("ouro", {"backprop_depth": 2}, "backprop_depth=2: .*loss='exit'"),
        ("ouro", {"stage": "gate"}, "init_from=None: .*stage='gate'"),
    ],
)  # fmt: skip
def test_a_loss_or_stage_that_needs_a_gate_is_refused_without_one(name, recipe, says):
    model = dict(d_model=16, n_heads=2, n_ctx=24, loop={"family": name})
    config = TrainConfig({**FAMILIES[name].shape(16), **model}, "nowhere", "d", recipe=recipe)
    with pytest.raises(ConfigError, match=says):
        config.looped_config()


def test_tokens_that_are_not_counted_are_not_trained(tokens):
    model, counted = make("abbie-d"), torch.zeros(2, 6, dtype=torch.bool)
    counted[0, 3] = counted[1, 5] = True
    loss, _ = Objective(model, Recipe())(tokens, counted, 2, 1.0)
    log_p = model(tokens, n_iters=2).log_softmax(-1)
    torch.testing.assert_close(loss, -(log_p[0, 2, tokens[0, 3]] + log_p[1, 4, tokens[1, 5]]) / 2)


def body_gradients(model, tokens, backprop_depth, n_iters):
    """Gradient of the loss at each Body application's output, None where none arrives."""
    outputs = []
    keep = lambda x, hook: outputs.append(x)  # noqa: E731
    with model.hooks([("body.1.hook_resid_post", keep)]):
        loss, _ = Objective(model, Recipe(backprop_depth=backprop_depth))(
            tokens, None, n_iters, 1.0
        )
    return [
        torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)[0]
        if x.requires_grad
        else None
        for x in outputs
    ], loss


@pytest.mark.parametrize("name", ["huginn", "abbie-d", "flt", "spiral", "ponder"])
def test_gradients_stop_at_the_truncated_depth(tokens, name):
    model = make(name)
    gradients, loss = body_gradients(model, tokens, 2, 4)
    # The pass that PonderLM's begin takes is before all updates.
    kept = [g is not None and bool(g.any()) for g in gradients[-4:]]
    assert kept == [False, False, True, True]
    whole = Objective(model, Recipe())(tokens, None, 4, 1.0)[0]
    torch.testing.assert_close(loss, whole, msg="truncation changes the gradient, not the loss")
    assert all(g is not None and g.any() for g in body_gradients(model, tokens, None, 4)[0])
    assert all(g is not None and g.any() for g in body_gradients(model, tokens, 9, 4)[0])


def test_the_injected_input_carries_gradient_past_the_truncation(tokens):
    """Huginn's Head learns through e in the iterations that carry gradient; a state that only goes on does not let it."""
    for name, reaches in (("huginn", True), ("abbie-c", False)):
        model = make(name)
        Objective(model, Recipe(backprop_depth=1))(tokens, None, 3, 1.0)[0].backward()
        gradient = model.head[0].mlp.in_proj.weight.grad
        assert (gradient is not None and bool(gradient.any())) == reaches


@pytest.mark.parametrize(
    ("window", "n_iters", "depths"),
    [(2, 4, [2, 4]), (2, 5, [2, 4, 5]), (1, 3, [1, 2, 3]), (3, 2, [2]), (2, 0, [0])],
)
@pytest.mark.parametrize("name", ["fprm", "hrm", "spiral-mesh", "adaponder-repeat_last"])
def test_a_window_trains_its_end_and_nothing_before_it(tokens, name, window, n_iters, depths):
    """The gradient is the sum over windows of what each alone gives from the state, held fixed, that it begins at."""
    model = make(name)
    minimised, _ = Objective(model, Recipe(window=window))(tokens, None, n_iters, 0.0)
    expected = torch.stack([nll_at(model, tokens, k) for k in depths]).mean()
    torch.testing.assert_close(minimised, expected)
    minimised.backward()
    together = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    for first, last in itertools.pairwise([0, *depths]):
        alone = Recipe(backprop_depth=max(last - first, 1))
        (Objective(model, alone)(tokens, None, last, 0.0)[0] / len(depths)).backward()
    apart = {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
    assert apart.keys() == together.keys()
    for parameter, gradient in apart.items():
        torch.testing.assert_close(together[parameter], gradient, atol=1e-5, rtol=1e-3)


def test_windows_go_with_other_losses_and_truncation():
    assert Recipe(window=2, loss="step").trained_depths(5) == [1, 2, 3, 4, 5]
    assert Recipe(window=2, loss="few").trained_depths(6) == [2, 4, 5, 6]
    with pytest.raises(ConfigError, match=r"recipe\.window=0"):
        Recipe(window=0)


def exact(model, state):
    """‖J‖_F² / n for each sequence, J the whole Jacobian of the next state."""
    step = lambda h: model.step(model.cfg.loop.restart(model, state, h)).h  # noqa: E731
    jacobian = torch.autograd.functional.jacobian(step, state.h)
    n = state.h[0].numel()
    return torch.stack([jacobian[b, :, :, b].square().sum() / n for b in range(len(state.h))])


TOY = dict(d_model=8, n_heads=2, d_head=4, d_mlp=16, n_body_blocks=1, d_vocab=11)


@pytest.mark.parametrize("name", ["abbie-d", "0pt", "flt", "ponder", "adaponder", "spiral-mesh"])
def test_stars_is_the_jacobians_mean_square_in_expectation(name):
    model = make(name, **TOY)
    tokens = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])
    state = model.begin(tokens, 2)
    state = model.step(state)
    expected = exact(model, state).mean()
    torch.manual_seed(0)
    draws = torch.stack([jacobian_penalty(model, state).detach() for _ in range(150)])
    error = draws.std() / len(draws) ** 0.5
    assert draws.mean().item() == pytest.approx(expected.item(), abs=4 * error.item())
    assert error < 0.1 * expected, "too few draws to tell"
    identity = torch.ones(())
    assert not torch.isclose(expected, identity, rtol=1e-3), "the map must not be trivial"


@pytest.mark.parametrize("name", LOOPS)
def test_stars_trains_any_loop(tokens, name):
    model = make(name, n_iters=2)
    recipe = Recipe(jacobian_weight=0.5, jacobian_from=0.5)
    torch.manual_seed(0)
    early, nll = Objective(model, recipe)(tokens, None, 2, 0.4)
    late, _ = Objective(model, recipe)(tokens, None, 2, 0.5)
    # Ouro rewards the entropy of its exits, so what it minimises may lie below the NLL.
    assert (early >= nll or name == "ouro") and late.isfinite() and late != early
    late.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    state = model.step(model.begin(tokens, 2))
    model.zero_grad()
    jacobian_penalty(model, state).backward()
    gradient = model.body[0].mlp.in_proj.weight.grad
    assert gradient is not None and gradient.any(), "the penalty must reach the Body"


def test_the_families_penalty_comes_on_top(tokens):
    model = make(AdaPonder(gate_weight=2.0, gate_share=0.5, gate_ramp=(0.0, 0.0)))
    loss, nll = Objective(model, Recipe())(tokens, None, 2, 1.0)
    gates = model.run_with_cache(tokens, n_iters=2)[1]["loop.hook_gate"].flatten()
    lowest = gates.sort().values[: len(gates) // 2].mean()
    torch.testing.assert_close(loss.detach() - nll, 2.0 * lowest)
    torch.testing.assert_close(nll, nll_at(model, tokens, 2).detach())


def test_padding_in_the_nll_is_left_out():
    logits = torch.zeros(1, 3, 4)
    tokens, counted = torch.tensor([[0, 1, 2]]), torch.tensor([[False, False, False]])
    assert next_token_nll(logits, tokens, counted=counted).isnan()


@pytest.mark.parametrize(
    ("loop", "recipe", "says"),
    [
        ({"family": "adaponder", "max_iters": 2}, {"depth": "lognormal_poisson"}, "no upper end"),
        ({"family": "adaponder", "max_iters": 2}, {"jacobian_weight": 0.1}, "takes iteration 3"),
        ({"family": "spiral", "beyond": "refuse", "schedule": [2, 1]}, {"jacobian_weight": 0.1}, "takes iteration 3"),
    ],
)  # fmt: skip
def test_a_recipe_that_the_loop_refuses_is_told_before_any_text_is_read(
    tmp_path, loop, recipe, says
):
    bare = {"n_head_blocks": 0, "n_tail_blocks": 0} if loop["family"] == "adaponder" else {}
    model = dict(d_model=16, n_heads=2, n_ctx=24, n_iters=2, loop=loop, **bare)
    config = TrainConfig(model, "nowhere.txt", str(tmp_path / "run"), recipe=recipe)
    with pytest.raises(ConfigError, match=says):
        config.looped_config()
    repeating = {**loop, "beyond": "repeat_last"}
    TrainConfig({**model, "loop": repeating}, "nowhere.txt", "out", recipe=recipe).looped_config()


def test_a_vocabulary_that_is_not_known_yet_is_no_limit():
    model = dict(d_model=16, n_heads=2, n_ctx=24, n_head_blocks=0, n_tail_blocks=0)
    loop = {"family": "ponder", "top_k": 50}
    config = TrainConfig({**model, "loop": loop}, "data", "out")
    assert config.looped_config().loop == Ponder(50)
    with pytest.raises(ConfigError, match="top_k=50: expected 1 to d_vocab=40"):
        config.looped_config(40)


def test_recipes_of_the_families_are_laid_under_a_runs_own():
    config = TrainConfig({}, "data", "out", recipe={"backprop_depth": 3})
    assert config.loop_recipe(Huginn()) == Recipe(depth="lognormal_poisson", backprop_depth=3)
