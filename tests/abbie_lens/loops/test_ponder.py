"""PonderLM against its equation."""

import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import Ponder, Std
from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out

close = dict(atol=5e-5, rtol=1e-5)


def feedback(model, z, scale, top_k=None):
    """softmax(logits) times the scaled embeddings, token by token of the vocabulary."""
    p = read_out(model, z).softmax(-1)
    if top_k is not None:
        p = torch.where(p >= p.topk(top_k).values[..., -1:], p, 0)
        p = p / p.sum(-1, keepdim=True)
    return sum(p[..., i, None] * scale * model.embed.weight[i] for i in range(p.shape[-1]))


@pytest.mark.parametrize("top_k", [None, 7])
@torch.no_grad()
def test_every_state_is_the_equations(tokens, top_k):
    model, scale = make(Ponder(top_k)), 32**0.5
    h = scale * model.embed.weight[tokens]
    for state in walk(model, tokens, 3):
        z = blocks(model.body, h)
        torch.testing.assert_close(state.h, h, **close)
        torch.testing.assert_close(state.z, z, **close)
        torch.testing.assert_close(model.readout(state), read_out(model, z), **close)
        h = h + feedback(model, z, scale, top_k)


@torch.no_grad()
def test_no_update_is_a_plain_transformer(tokens):
    plain = make(Std(), n_head_blocks=0, n_tail_blocks=0, embed_scale=32**0.5)
    assert torch.equal(make("ponder")(tokens, n_iters=0), plain(tokens, n_iters=1))
    assert (make("ponder")(tokens, n_iters=1) - plain(tokens, n_iters=1)).abs().max() > 1e-3


@torch.no_grad()
def test_the_most_probable_tokens_are_all_of_them(tokens):
    full = make("ponder")(tokens, n_iters=2)
    torch.testing.assert_close(make(Ponder(top_k=100))(tokens, n_iters=2), full, **close)
    assert (make(Ponder(top_k=1))(tokens, n_iters=2) - full).abs().max() > 1e-3


@torch.no_grad()
def test_the_feedback_site_is_the_step_of_the_state(tokens):
    cache = make("ponder").run_with_cache(tokens, n_iters=3)[1]
    h = cache["loop.hook_state"]
    torch.testing.assert_close(cache["loop.hook_feedback"], h[1:] - h[:-1], atol=1e-5, rtol=0)
    assert len(cache["body.0.hook_resid_pre"]) == 4
    assert torch.equal(cache["body.0.hook_resid_pre"], h)


def test_all_passes_are_in_the_gradient(tokens):
    model = make("ponder")
    state = model.begin(tokens, 2)
    first = state.z
    for _ in range(2):
        state = model.step(state)
    (gradient,) = torch.autograd.grad(model.readout(state).square().sum(), first)
    assert gradient.abs().max() > 0


def test_a_restart_refuses_a_state_whose_keys_are_cached(tokens):
    for name in ("ponder", "adaponder"):
        model = make(name)
        state = model.begin(tokens, 2, past={})
        with pytest.raises(InputError, match="cached keys"):
            model.cfg.loop.restart(model, state, state.h)
