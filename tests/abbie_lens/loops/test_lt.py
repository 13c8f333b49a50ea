"""The looped transformers and the fully looped ones against their equations."""

import pytest
import torch

from tests.abbie_lens.families import make, walk
from tests.abbie_lens.reference import blocks, read_out, rms, run_block, turning

close = dict(atol=2e-5, rtol=1e-5)


def lt(model, x0, embedded, h, k):
    return blocks(model.body, h)


def lt_i(model, x0, embedded, h, k):
    return blocks(model.body, x0 if k == 0 else rms(embedded + h))


def lt_ia(model, x0, embedded, h, k):
    return blocks(model.body, x0, lambda b: h if b == 0 and k > 0 else None)


def flt(model, x0, embedded, h, k):
    return blocks(model.body, x0, lambda b: h if k > 0 else None)


def flt_res(model, x0, embedded, h, k):
    x, rotary = x0, turning(range(x0.shape[1]), 8)
    for block in model.body:
        x = run_block(block, x if k == 0 else rms(x + h), rotary)
    return x


EQUATIONS = {"lt": lt, "lt-i": lt_i, "lt-ia": lt_ia, "flt": flt, "flt-res": flt_res}


@pytest.mark.parametrize("name", EQUATIONS)
@torch.no_grad()
def test_every_state_is_the_equations(tokens, name):
    model = make(name)
    embedded = model.embed.weight[tokens]
    x0 = h = rms(embedded)
    for state in walk(model, tokens, 4):
        torch.testing.assert_close(state.h, h, **close)
        assert torch.equal(state.z, state.h)
        logits = model.readout(state)
        torch.testing.assert_close(logits, read_out(model, h), **close)
        assert logits.abs().max() < 15
        h = rms(EQUATIONS[name](model, x0, embedded, h, state.k))


@torch.no_grad()
def test_the_variants_are_told_apart(tokens):
    """Four loops that differ from the second one on, over the same weights."""
    results = {name: make(name)(tokens, n_iters=2) for name in EQUATIONS}
    first = {name: make(name)(tokens, n_iters=1) for name in EQUATIONS}
    for a in EQUATIONS:
        assert torch.equal(first[a], first["lt"]), "the first loop is the plain transformer"
        for b in EQUATIONS:
            assert a == b or (results[a] - results[b]).abs().max() > 1e-3, (a, b)


@pytest.mark.parametrize(("name", "asking"), [("flt", 2), ("lt-ia", 1)])
@torch.no_grad()
def test_the_state_reaches_a_loop_through_queries_alone(tokens, name, asking):
    """Block 0 reads x_0 whatever the state is: another h_k changes what it asks, not what it answers."""
    model = make(name)
    state = walk(model, tokens, 2)[1]
    seen = []
    for h in (state.h, state.h.flip(-1)):
        rows = {}
        sites = [f"body.{b}.attn.hook_{n}" for b in range(2) for n in "qkv"]
        keep = lambda x, hook, rows=rows: rows.__setitem__(hook.name, x)  # noqa: E731
        with model.hooks([(site, keep) for site in sites]):
            model.step(state.replace(h=h))
        seen.append(rows)
    same = {site: torch.equal(*(rows[site] for rows in seen)) for site in seen[0]}
    assert same["body.0.attn.hook_k"] and same["body.0.attn.hook_v"]
    assert not same["body.0.attn.hook_q"]
    # The blocks after it read another stream in any case; those that ask with h_k ask with it alone.
    query = seen[0]["body.1.attn.hook_q"]
    asked = (rms(state.h, 1e-6) * model.body[1].ln1.weight) @ model.body[1].attn.q_proj.weight.T
    assert torch.allclose(query.flatten(2), asked, atol=1e-5) == (asking == 2)


@torch.no_grad()
def test_the_first_loop_ignores_the_state(tokens):
    for name in ("lt-ia", "flt", "flt-res", "lt-i"):
        model = make(name)
        state = walk(model, tokens, 1)[0]
        moved = state if name == "lt-i" else state.replace(h=state.h.flip(-1))
        plain = rms(blocks(model.body, rms(model.embed.weight[tokens])))
        torch.testing.assert_close(model.step(moved).h, plain, **close)
