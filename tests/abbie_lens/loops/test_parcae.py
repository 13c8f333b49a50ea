"""Parcae against its equation, and its decay between 0 and 1 whatever the weights."""

import math

import pytest
import torch

from abbie_lens.components.value_embed import ValueEmbedding
from abbie_lens.errors import ConfigError, InputError
from abbie_lens.loops import Parcae
from abbie_lens.loops.parcae import Injection
from tests.abbie_lens.families import LOOPS, make, walk
from tests.abbie_lens.reference import blocks, read_out, rms

close = dict(atol=5e-5, rtol=1e-5)
PLAIN = dict(
    act_fn="silu", gated_mlp=True, qk_norm="none", rotary_adjacent_pairs=False, rotary_base=1e4,
    value_embeddings="none", eps=1e-6,
)  # fmt: skip
"""Blocks that the reference writes out."""


@pytest.mark.parametrize("input_norm", [True, False])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, input_norm):
    model = make(Parcae(input_norm=input_norm), **PLAIN)
    part = model.loop.injection
    for value in (part.A_log, part.dt_bias, part.B.weight):
        value.add_(torch.randn(value.shape, generator=torch.Generator().manual_seed(2)))
    h = torch.randn(2, 9, 32, generator=torch.Generator().manual_seed(3))
    e = blocks(model.head, model.embed.weight[tokens])
    e = rms(e, model.cfg.eps) * model.loop.ln_input.weight if input_norm else e
    delta = part.dt_bias.exp().log1p()
    a = torch.exp(-delta * part.A_log.exp())
    for state in walk(model, tokens, 3, initial_state=h):
        z = h @ model.loop.readout.weight.T
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, z), **close)
        h = blocks(model.body, a * h + delta * (e @ part.B.weight.T))


@torch.no_grad()
def test_it_begins_with_the_published_decay_and_the_identity():
    part = make("parcae").loop.injection
    torch.testing.assert_close(part.decay(torch.float32), torch.full((32,), math.sqrt(1 / 5)))
    assert torch.equal(part.B.weight, torch.eye(32)) and not part.A_log.any()


@torch.no_grad()
def test_the_drawn_state_is_small():
    h = make("parcae", n_ctx=4096).begin(torch.zeros(1, 4096, dtype=torch.long), 0).h
    std = math.sqrt(2 / (5 * 32))
    assert 2.9 * std < h.abs().max() <= 3 * std
    assert h.var().item() == pytest.approx(0.9733 * std**2, rel=0.02)


EXTREMES = torch.tensor(
    [-3e38, -1e4, -300.0, -104.0, -88.0, -40.0, -17.0, -5.0, 0.0, 3.0, 17.0, 40.0, 88.0, 300.0, 1e4, 3e38]
)  # fmt: skip


@pytest.mark.parametrize(
    ("stored", "dtype"),
    [
        (torch.float32, torch.float32), (torch.float32, torch.bfloat16), (torch.float64, torch.float64),
        (torch.bfloat16, torch.bfloat16), (torch.float16, torch.float16),
    ],
    ids=str,
)  # fmt: skip
def test_the_decay_is_between_0_and_1_whatever_the_weights(stored, dtype):
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randn(20_000, generator=generator) * 10**power for power in (0, 1, 2)]
    values = torch.cat([EXTREMES, *drawn]).to(stored)
    values = values.clamp(torch.finfo(stored).min, torch.finfo(stored).max)
    grid = torch.cartesian_prod(values[: len(EXTREMES)], values[: len(EXTREMES)]).T
    pairs = torch.cat([grid, torch.stack([values, values[torch.randperm(len(values))]])], 1)
    part = Injection(1).to(stored)
    part.A_log.data, part.dt_bias.data = pairs[0].clone(), pairs[1].clone()
    a = part.decay(dtype)
    assert a.dtype == dtype and (a > 0).all() and (a < 1).all()
    a.float().sum().backward()
    assert part.A_log.grad.isfinite().all() and part.dt_bias.grad.isfinite().all()
    held = (a == 1 - torch.finfo(dtype).eps / 2) | (a == torch.finfo(dtype).tiny)
    assert held.any() and not held.all()


def test_away_from_the_ends_nothing_is_held():
    part = Injection(100).double()
    part.A_log.data.normal_(generator=torch.Generator().manual_seed(0))
    part.dt_bias.data.normal_(generator=torch.Generator().manual_seed(1))
    exact = torch.exp(-part.dt_bias.exp().log1p() * part.A_log.exp())
    torch.testing.assert_close(part.decay(torch.float64), exact)


@torch.no_grad()
def test_a_hook_on_the_decay_changes_one_token(tokens):
    """It forgets the state: what the Body reads there is the injected input alone."""
    model = make("parcae")

    def forget(a, hook):
        a = a.clone()
        a[:, 4] = 0
        return a

    _, clean = model.run_with_cache(tokens, n_iters=2)
    with model.hooks([("loop.hook_decay@1", forget)]):
        _, cache = model.run_with_cache(tokens, n_iters=2)
    read = cache["body.0.hook_resid_pre"]
    torch.testing.assert_close(read[1, :, 4], cache["loop.hook_injected"][1, :, 4])
    assert torch.equal(read[1, :, :4], clean["body.0.hook_resid_pre"][1, :, :4])


@torch.no_grad()
def test_value_embeddings_are_added_in_every_other_block(tokens):
    model = make("parcae", n_body_blocks=3)
    has = [b.attn.value_embed is not None for b in (*model.head, *model.body, *model.tail)]
    assert has == [True, False, True, False, True, False, True]
    assert list(model.cfg.value_embedding_blocks) == [0, 2, 4, 6]
    block = model.body[0]
    _, cache = model.run_with_cache(tokens, n_iters=2)
    x = cache["body.0.ln1.hook_normalized@1"] * block.ln1.weight
    gate = 2 / (1 + torch.exp(-(x[..., :32] @ block.attn.value_embed.gate.weight.T)))
    torch.testing.assert_close(cache["body.0.attn.value_embed.hook_value_gate@1"], gate, **close)
    v = (x @ block.attn.v_proj.weight.T).view(2, 9, 4, 8)
    v = v + gate[..., None] * block.attn.value_embed.weight[tokens].view(2, 9, 4, 8)
    torch.testing.assert_close(cache["body.0.attn.hook_v@1"], v, **close)


@pytest.mark.parametrize("name", LOOPS)
@torch.no_grad()
def test_value_embeddings_work_in_any_loop_over_tokens(tokens, name):
    try:
        model = make(name, value_embeddings="alternate")
    except ConfigError as error:
        assert LOOPS[name].family in ("spiral", "ponder-2") and "is no token" in str(error)
        return
    expected, past, pieces = model(tokens, n_iters=2), {}, []
    for chunk in tokens.split([5, 1, 3], dim=1):
        logits, past = model.run_cached(chunk, past, 2)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), expected, atol=1e-4, rtol=0)
    for module in model.modules():
        if isinstance(module, ValueEmbedding):
            module.weight.mul_(2)
    assert (model(tokens, n_iters=2) - expected).abs().max() > 1e-3


def test_chunks_and_thoughts_have_no_value_embeddings(tokens):
    for name in ("spiral", "ponder-2"):
        with pytest.raises(ConfigError, match=r"value_embeddings='alternate'.* is no token"):
            make(name, value_embeddings="alternate")
    with pytest.raises(ConfigError, match="value_embeddings='all': expected"):
        make("std", value_embeddings="all")
    for wrong in ((0, 9), (1, 1), (), ("0",)):
        with pytest.raises(ConfigError, match=r"value_embeddings=.*numbers of blocks below 4"):
            make("std", value_embeddings=wrong)
    model = make("std", value_embeddings="alternate")
    state = model.begin(tokens, 1)
    with pytest.raises(InputError, match="need token ids"):
        model.step(state.replace(context=state.context.replace(tokens=None)))
