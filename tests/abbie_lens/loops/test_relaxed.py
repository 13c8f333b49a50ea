"""Relaxed recursion: adapters by iteration, an untied stack at full rank, and the error that a lower rank leaves."""

import itertools

import pytest
import torch

from abbie_lens.conversion.relax import SHARED, relax
from abbie_lens.errors import ConfigError, DepthError, InputError
from abbie_lens.flops import count_flops
from abbie_lens.loops import Relaxed, Std
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out

close = dict(atol=5e-5, rtol=1e-5)
LINEAR = (
    *(f"attn.{n}_proj" for n in "qkvo"),
    *(f"mlp.{n}_proj" for n in ("gate", "in", "out")),
)


def untied(n_layers, **changes):
    """A plain model whose Body has so many different blocks."""
    return make(Std(), n_body_blocks=n_layers, n_iters=1, **changes)


@pytest.mark.parametrize("name", ["relaxed", "relaxed-refuse"])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, name):
    """Against a plain model whose weights are W + B A, written into it block by block."""
    model = make(name)
    twin = untied(2)
    twin.load_state_dict({k: v for k, v in model.state_dict().items() if not k.startswith("loop.")})
    h = blocks(model.head, model.embed.weight[tokens])
    for state in walk(model, tokens, 3):
        torch.testing.assert_close(state.h, h, **close)
        assert torch.equal(state.z, state.h)
        torch.testing.assert_close(model.readout(state), read_out(model, h), atol=1e-4, rtol=1e-4)
        adapters = model.loop.adapters[min(state.k, model.cfg.loop.max_iters - 1)]
        for b in range(2):
            for linear in LINEAR:
                part = adapters[b].get_submodule(linear)
                w = model.body[b].get_submodule(linear).weight
                change = part.up.weight @ part.down.weight
                assert change.abs().max() > 1e-3, "an adapter that does nothing shows nothing"
                twin.body[b].get_submodule(linear).weight.copy_(w + change)
        h = blocks(twin.body, h)


@pytest.mark.parametrize("carry", ["abbie-d", "steps"])
@torch.no_grad()
def test_other_carries_around_a_plain_first_iteration(tokens, carry):
    """Against blocks with W + B A written into them, and the carry's equation."""
    loop = Relaxed(rank=2, max_iters=3, carry=carry, plain_first=True)
    model = make(loop, n_iters=3)
    if carry == "steps":
        for i, step in enumerate(model.loop.steps):
            step.add_(torch.linspace(0.1, 0.5 + i, 32))
    assert len(model.loop.adapters) == 2
    twin = untied(2)
    h = blocks(model.head, model.embed.weight[tokens])
    z = h
    for state in walk(model, tokens, 4):
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        twin.body.load_state_dict(model.body.state_dict())
        own = min(state.k, 2) - 1
        for b in range(2 if own >= 0 else 0):
            for linear in LINEAR:
                part = model.loop.adapters[own][b].get_submodule(linear)
                change = part.up.weight @ part.down.weight
                twin.body[b].get_submodule(linear).weight.add_(change)
        out = blocks(twin.body, h)
        if carry == "abbie-d":
            z, h = out, out + h
        else:
            z = h = out if own < 0 else h + model.loop.steps[own] * (out - h)
    plain = make(Std(), n_body_blocks=2, n_iters=1)
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("loop.")}
    )
    torch.testing.assert_close(model(tokens, n_iters=1), plain(tokens), **close)
    assert loop.sums_plainly(1) and not loop.sums_plainly(2)


@torch.no_grad()
def test_steps_begin_at_nothing(tokens):
    model = make(Relaxed(rank=2, carry="steps", plain_first=True))
    assert torch.equal(model(tokens, n_iters=3), model(tokens, n_iters=1))


@pytest.mark.parametrize("shared", SHARED)
@pytest.mark.parametrize("changes", [{}, {"attention_gate": True, "n_key_value_heads": 2, "use_bias": True, "qk_norm": "learned"}], ids=["plain", "more"])  # fmt: skip
@torch.no_grad()
def test_at_full_rank_it_is_the_untied_stack(tokens, shared, changes):
    plain = untied(6, **changes)
    model = relax(plain, 2, Relaxed(rank=32, max_iters=3), shared)
    assert len(model.body) == 2 and model.cfg.n_iters == 3
    torch.testing.assert_close(model(tokens), plain(tokens), atol=1e-4, rtol=0)
    _, ours = model.run_with_cache(tokens)
    _, theirs = plain.run_with_cache(tokens)
    for layer in range(6):
        site, k = f"body.{layer % 2}.hook_resid_post", layer // 2
        expected = theirs[f"body.{layer}.hook_resid_post@0"]
        torch.testing.assert_close(ours[f"{site}@{k}"], expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("shared", SHARED)
@torch.no_grad()
def test_what_truncation_leaves_is_the_tail_of_the_singular_values(tokens, shared):
    plain = untied(4)
    rests = []
    for rank in (1, 4, 16, 32):
        model = relax(plain, 2, Relaxed(rank=rank, max_iters=2), shared)
        rest = 0.0
        for layer in range(4):
            part = model.loop.adapters[layer // 2][layer % 2].attn.q_proj
            w = model.body[layer % 2].attn.q_proj.weight
            target = plain.body[layer].attn.q_proj.weight
            error = target - w - part.up.weight @ part.down.weight
            values = torch.linalg.svdvals(target - w)
            expected = values[rank:].square().sum().sqrt()
            torch.testing.assert_close(error.norm(), expected, atol=1e-5, rtol=1e-4)
            rest += error.square().sum().item()
        rests.append(rest)
    assert all(a > b for a, b in itertools.pairwise(rests))
    assert rests[-1] < 1e-8 < rests[-2]


@torch.no_grad()
def test_what_is_shared(tokens):
    plain = untied(6)
    weight = lambda layer: plain.body[layer].mlp.in_proj.weight  # noqa: E731
    expected = {
        "average": [(weight(b) + weight(b + 3)) / 2 for b in range(3)],
        "lower": [weight(b) for b in range(3)],
        "stepwise": [weight(0), weight(2), weight(5)],
    }
    for shared, layers in expected.items():
        model = relax(plain, 3, Relaxed(rank=2), shared)
        for block, layer in zip(model.body, layers, strict=True):
            torch.testing.assert_close(block.mlp.in_proj.weight, layer)
    assert torch.equal(model.head[0].ln1.weight, plain.head[0].ln1.weight)
    assert torch.equal(model.embed.weight, plain.embed.weight)


@torch.no_grad()
def test_the_unrolled_stack_has_the_weights_of_each_iteration(tokens):
    """TransformerLens' own sum over heads multiplies by W_O: of the iteration, or it would not add up."""
    model = make("relaxed")
    cache = model.run_with_cache(tokens, n_iters=3)[1]
    plain = cache.unroll()
    for layer, (b, k) in {1: (0, 0), 2: (1, 0), 3: (0, 1), 6: (1, 2)}.items():
        z = cache[f"body.{b}.attn.hook_z@{k}"]
        out = torch.einsum("bphd,hdm->bpm", z, plain.model.blocks[layer].attn.W_O)
        expected = cache[f"body.{b}.hook_attn_out@{k}"]
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=0)
    heads = plain.stack_head_results(incl_remainder=True).sum(0)
    torch.testing.assert_close(heads, plain["blocks.7.hook_resid_post"], atol=1e-3, rtol=0)


@torch.no_grad()
def test_a_run_leaves_the_shared_weights_in_place(tokens):
    """Even while it runs: a hook sees W, and may run the model itself."""
    model = make("relaxed")
    expected, seen = model(tokens, n_iters=2), []
    before = {name: id(p) for name, p in model.named_parameters()}

    def look(x, hook):
        if not seen:
            seen.append({name: id(p) for name, p in model.named_parameters()})
            seen.append(model(tokens, n_iters=2))

    with model.hooks([("body.1.hook_resid_mid@1", look)]):
        again = model(tokens, n_iters=2)
    assert seen[0] == before
    assert torch.equal(seen[1], expected) and torch.equal(again, expected)


def test_compiled_blocks_do_not_forget_the_adapters(tokens):
    model = make("relaxed")
    with torch.no_grad():
        expected = model(tokens, n_iters=2)
        for block in model.body:
            block.compile(backend="eager")
        assert torch.equal(model(tokens, n_iters=2), expected)
        assert model.body[0]._compiled_call_impl is not None


def test_an_iterations_adapters_are_its_own_and_the_last_are_repeated(tokens):
    with torch.no_grad():
        model = make(Relaxed(rank=2, max_iters=2))
        states = walk(model, tokens, 3)
        for part in model.loop.adapters[1].parameters():
            part.mul_(2)
        moved = walk(model, tokens, 3)
        assert torch.equal(states[1].h, moved[1].h)
        assert not torch.allclose(states[2].h, moved[2].h, atol=1e-3)
        again = model.step(states[1]).h
        assert torch.equal(again, model.step(states[1].replace(k=5)).h)
    model(tokens, n_iters=1, return_type="loss").backward()
    assert all(p.grad is None for p in model.loop.adapters[1].parameters())
    with pytest.raises(DepthError, match=r"n_iters=4: relaxed has 3 iterations"):
        make("relaxed-refuse")(tokens, n_iters=4)


def test_an_adapter_costs_its_rank():
    plain, model = (make(loop, n_iters=2) for loop in (Std(), Relaxed(rank=3)))
    d, mlp, rank = 32, 64, 3
    adapters = 2 * rank * (4 * (d + d) + 3 * (d + mlp))
    once = count_flops(plain, 1).iterations[0]
    assert count_flops(model, 2).iterations == (once + 2 * adapters,) * 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "rank=0"),
        ({"max_iters": 0}, "max_iters=0"),
        ({"beyond": "stop"}, "beyond='stop'"),
        ({"carry": "literal"}, "carry='literal': expected one of"),
        ({"carry": "steps"}, "plain_first=False: expected true with carry='steps'"),
        ({"max_iters": 1, "plain_first": True}, "max_iters=1: expected at least 2"),
        ({"max_iters": 1, "beyond": "refuse"}, "max_iters=1: expected at least n_iters=2"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(Relaxed(**settings))


def test_stacks_that_do_not_divide():
    with pytest.raises(InputError, match=r"n_body_blocks=2: expected 6 layers"):
        relax(untied(6), 2, Relaxed(max_iters=2))
    with pytest.raises(InputError, match="shared='mean'"):
        relax(untied(4), 2, Relaxed(), "mean")
    with pytest.raises(InputError, match="plain: a model of abbie-d"):
        relax(make("abbie-d"), 1, Relaxed())
