"""FPRM against its equation: the total weight of old state and block outputs, the ties, every state, the window."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import halting
from abbie_lens.errors import ConfigError
from abbie_lens.halting import Observation
from abbie_lens.loops import FPRM
from abbie_lens.loops.fprm import Weights
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out, run_block, turning

close = dict(atol=2e-5, rtol=1e-5)
share = st.floats(0.001, 0.999)


def weights_of(alpha1, alpha2, n_blocks):
    """a1, b1, a2, b2 in float64."""
    return Weights(3, 2 * n_blocks, alpha1, alpha2).double()()


@settings(deadline=None)
@given(alpha1=share, alpha2=share, n_blocks=st.integers(1, 12))
def test_old_state_and_sublayers_have_total_weight_one(alpha1, alpha2, n_blocks):
    """Weights followed through one pass: each sublayer takes a1 of all before it and adds b1 of its own."""
    a1, b1, a2, b2 = weights_of(alpha1, alpha2, n_blocks)
    old, injected, outputs = a2, b2, torch.zeros_like(b1)
    for _ in range(2 * n_blocks):
        old, injected, outputs = a1 * old, a1 * injected, a1 * outputs + b1
    torch.testing.assert_close(old + outputs, torch.ones_like(old))
    torch.testing.assert_close(injected, a1 ** (2 * n_blocks) * b2)


@settings(deadline=None)
@given(alpha1=share, alpha2=share, n_blocks=st.integers(1, 12))
def test_the_ties(alpha1, alpha2, n_blocks):
    a1, b1, a2, b2 = weights_of(alpha1, alpha2, n_blocks)
    torch.testing.assert_close(a1, torch.full_like(a1, alpha1), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(a2, torch.full_like(a2, alpha2), atol=1e-6, rtol=1e-6)
    power = a1 ** (2 * n_blocks)
    torch.testing.assert_close(b2, 1 - a2 * power)
    torch.testing.assert_close(b1, b2 * (1 - a1) / (1 - power), rtol=1e-6, atol=0)


def test_a_weight_that_rounds_to_one_is_no_division_by_zero():
    part = Weights(3, 4, 0.5, 0.25)
    torch.nn.init.constant_(part.alpha1, 50.0)
    a1, b1, a2, b2 = part.bfloat16()()
    assert (a1 == 1).all() and torch.equal(b2, 1 - a2) and torch.equal(b1, b2 / 4)


def written_out(model, tokens, n_iters, loop):
    """Every state from the equation, channels with weights of their own."""
    part, rotary = model.loop.weights, turning(range(tokens.shape[1]), 8)
    a1, a2 = part.alpha1.sigmoid(), part.alpha2.sigmoid()
    power = a1 ** (2 * len(model.body))
    b2 = 1 - a2 * power
    b1 = b2 * (1 - a1) / (1 - power)
    x = blocks(model.head, model.embed.weight[tokens])
    h = x if loop.start == "input" else torch.zeros_like(x)
    yield h
    for _ in range(n_iters):
        y = a2 * h + b2 * x
        for block in model.body:
            y = run_block(block, y, rotary, join=lambda stream, out: a1 * stream + b1 * out)
        h = loop.step_size * y + (1 - loop.step_size) * h
        yield h


@pytest.mark.parametrize(
    "loop", [FPRM(), FPRM(step_size=0.6), FPRM(start="zeros", alpha1=0.5, alpha2=0.4)], ids=str
)
@torch.no_grad()
def test_every_state_is_the_equations(tokens, loop):
    model, generator = make(loop, n_body_blocks=3), torch.Generator().manual_seed(4)
    for part in (model.loop.weights.alpha1, model.loop.weights.alpha2):
        part.add_(torch.randn(32, generator=generator))
    expected = written_out(model, tokens, 3, model.cfg.loop)
    for state, h in zip(walk(model, tokens, 3), expected, strict=True):
        torch.testing.assert_close(state.h, h, **close)
        assert torch.equal(state.z, state.h)
        torch.testing.assert_close(model.readout(state), read_out(model, h), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_sites_hold_what_is_added_before_its_weight(tokens):
    model = make("fprm")
    cache = model.run_with_cache(tokens, n_iters=2)[1]
    a1, b1, _, _ = model.loop.weights()
    pre, mid, post, attn, mlp = (
        cache[f"body.1.hook_{n}@1"]
        for n in ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")
    )
    torch.testing.assert_close(mid, a1 * pre + b1 * attn, **close)
    torch.testing.assert_close(post, a1 * mid + b1 * mlp, **close)


@torch.no_grad()
def test_halting_where_the_residual_is_small(tokens):
    """The rule's largest value over tokens is the source's, and it falls where the loop contracts."""
    model = make(FPRM(alpha1=0.95), initializer_range=0.03)
    rule = halting.policy("fixed_point_residual")
    assert rule.threshold == 0.1
    states = walk(model, tokens, 12)
    decision, largest = rule.init(Observation(0, states[0].z)), []
    for before, state in itertools.pairwise(states):
        decision = rule.check(decision, Observation(state.k, state.z))
        size = lambda x: x.abs().amax(-1)  # noqa: E731
        expected = size(state.z - before.z) / size(state.z)
        torch.testing.assert_close(decision.value.float(), expected, atol=1e-6, rtol=1e-4)
        largest.append(decision.value.max().item())
    assert decision.halted.all() and largest[0] > 0.1 > largest[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"start": "drawn"}, "start='drawn'"),
        ({"alpha1": 1.0}, "alpha1=1.0: expected between 0 and 1"),
        ({"alpha2": 0}, "alpha2=0"),
        ({"step_size": 0.0}, "step_size=0.0"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(ConfigError, match=message):
        make(FPRM(**settings))
