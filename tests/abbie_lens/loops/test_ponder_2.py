"""PonderLM-2 against its equation, and its Jacobi iteration against thoughts taken one after the other."""

import pytest
import torch

from abbie_lens.errors import ConfigError, DepthError, SiteError
from abbie_lens.loops import MoR, Ponder2
from abbie_lens.training import TrainConfig
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import final_norm, read_out, run_block, turning

close = dict(atol=5e-5, rtol=1e-5)


def stack(model, x, positions):
    """All blocks on x [batch, pos, d] at these position ids."""
    for block in model.body:
        x = run_block(block, x, turning(positions, block.attn.d_head))
    return x


def thought_of(model, hidden):
    return final_norm(model, hidden) if model.cfg.loop.thought == "normed" else hidden


def sequential(model, tokens):
    """Logits at every thought, each one found exactly before the next token is read: x_1 t_1 x_2 t_2 …"""
    scale, line, logits = model.cfg.embed_scale, [], []
    for i in range(tokens.shape[1]):
        line.append(scale * model.embed.weight[tokens[:, i]])
        positions = [j // 2 for j in range(2 * i + 1)]
        line.append(thought_of(model, stack(model, torch.stack(line, 1), positions)[:, -1]))
        hidden = stack(model, torch.stack(line, 1), [*positions, i])[:, -1]
        logits.append(read_out(model, hidden[:, None])[:, 0])
    return torch.stack(logits, 1), torch.stack(line[1::2], 1)


@pytest.mark.parametrize("name", ["ponder-2", "ponder-2-raw"])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, name):
    model, n = make(name), tokens.shape[1]
    assert model.cfg.embed_scale == (2.5 * 32) ** 0.5
    h = x = model.cfg.embed_scale * model.embed.weight[tokens]
    z = x
    for state in walk(model, tokens, 4):
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, z), **close)
        if state.k == 0:
            z = stack(model, x, range(n))
            h = thought_of(model, z)
            continue
        pairs = torch.zeros(2, 2 * n, 32)
        pairs[:, ::2], pairs[:, 1::2] = x, h
        out = stack(model, pairs, [i // 2 for i in range(2 * n)])
        h, z = thought_of(model, out[:, ::2]), out[:, 1::2]


@pytest.mark.parametrize("name", ["ponder-2", "ponder-2-raw"])
@torch.no_grad()
def test_the_fixed_point_is_what_thinking_one_after_the_other_gives(tokens, name):
    """Thought i is exact after i passes: the plain one gives the first, each later one the next at least."""
    model, n = make(name), tokens.shape[1]
    logits, thoughts = sequential(model, tokens)
    states = walk(model, tokens, n + 2)
    for state in states[1:]:
        exact = state.k
        torch.testing.assert_close(state.h[:, :exact], thoughts[:, :exact], **close)
    assert (states[1].h[:, 1:] - thoughts[:, 1:]).abs().max() > 1e-2, "no pass would be needed"
    for state in states[n + 1 :]:
        torch.testing.assert_close(model.readout(state), logits, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_one_pass_is_a_plain_transformer(tokens):
    model, plain = make("ponder-2"), make("std", **Ponder2.shape(32) | {"n_body_blocks": 2})
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(tokens, n_iters=1), plain(tokens, n_iters=1))


@torch.no_grad()
def test_a_prediction_hears_its_own_thought_and_those_before(tokens):
    model = make("ponder-2")
    state = model.step(model.begin(tokens, 2))
    before = model.step(state)
    h = state.h.clone()
    h[:, 4] += 1
    after = model.step(state.replace(h=h))
    thoughts = (after.h != before.h).any(-1)[0].tolist()
    read_outs = (after.z != before.z).any(-1)[0].tolist()
    assert thoughts == [False] * 5 + [True] * 4, "the next thoughts of later tokens alone"
    assert read_outs == [False] * 4 + [True] * 5


@torch.no_grad()
def test_sites_of_the_body_hold_tokens_and_thoughts(tokens):
    cache = make("ponder-2").run_with_cache(tokens, n_iters=3)[1]
    shapes = [cache[f"body.0.hook_resid_pre@{i}"].shape[1] for i in range(3)]
    assert shapes == [9, 18, 18]
    with pytest.raises(SiteError, match="its shape changes with the iteration"):
        cache["body.0.hook_resid_pre"]
    thoughts = cache["body.0.hook_resid_pre@2"][:, 1::2]
    assert torch.equal(thoughts, cache["loop.hook_state@2"])


def test_training_draws_two_to_four_refinements():
    recipe = Recipe.from_dict(Ponder2.recipe)
    trained = Ponder2.shape(32)["n_iters"]
    drawn = [recipe.n_iters(trained, 0, step) for step in range(300)]
    assert drawn == [recipe.n_iters(trained, 0, step) for step in range(300)]
    assert {n - 2 for n in drawn} == {2, 3, 4}
    counts = torch.bincount(torch.tensor(drawn))[4:]
    assert (counts - 100).abs().max() < 4 * (300 * 2 / 9) ** 0.5
    wide = Recipe(depth="uniform", depth_spread=4)
    assert {wide.n_iters(3, 0, step) for step in range(200)} == set(range(1, 8))


def test_an_even_draw_has_an_upper_end():
    model = dict(d_model=16, n_heads=2, n_ctx=24, n_iters=2)
    loop = {"family": "mor", "max_iters": 3}
    make_config = lambda **recipe: TrainConfig(  # noqa: E731
        {**model, "loop": loop}, "nowhere.txt", "out", recipe={"depth": "uniform", **recipe}
    )
    make_config(depth_spread=1).looped_config()
    with pytest.raises(
        ConfigError, match="depth_spread=2: expected a draw of 3 iterations at most"
    ):
        make_config(depth_spread=2).looped_config()
    with pytest.raises(DepthError, match="n_iters=4: mor has 3 iterations"):
        make(MoR())(torch.arange(4)[None], n_iters=4)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (dict(loop=Ponder2("soft")), "thought='soft': expected one of"),
        (dict(loop=Ponder2(), n_tail_blocks=1), "n_tail_blocks=1: expected 0: ponder-2 loops"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(ConfigError, match=says):
        make(**changes)
