"""Runs whose tokens halt, against the same rules computed densely."""

import pytest
import torch

from abbie_lens import halting
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import DivergedError, InputError
from abbie_lens.halting.run import halted
from abbie_lens.loops import FAMILIES
from abbie_lens.rows import LEAST
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make
from tests.abbie_lens.halting.dense import BATCH, POS, Dealt, dealt, dense

PACKING = [name for name, loop in LOOPS.items() if loop.packs]
KV_RULES = ("reuse", "recompute", "first", "last", "cyclic(2)", "full")


def depth_of(model, most=4):
    limit = model.cfg.loop.max_depth
    return most if limit is None else min(most, limit)


@pytest.mark.parametrize("name", PACKING)
def test_halted_tokens_serve_their_last_keys_in_every_family(name, tokens, mask):
    model, real = make(name), mask.bool()
    r = depth_of(model)
    exits = dealt(real, r)
    run = halted(model, tokens, r, Dealt(depths=exits[real]), attention_mask=mask)
    assert torch.equal(run.exits, exits)
    expected = dense(model, tokens, r, exits, mask=mask)
    torch.testing.assert_close(run.logits[real], expected[real], rtol=0, atol=1e-5)
    assert run.logits[~real].isnan().all() and run.h[~real].isnan().all()


@pytest.mark.parametrize("kv", KV_RULES)
@pytest.mark.parametrize("name", ["abbie-d", "hrm", "ponder"])
def test_every_rule_on_keys_is_its_masked_dense_reference(name, kv, tokens, mask):
    model = make(name)
    rule, _, n = kv.rstrip(")").partition("(")
    for given_mask in (None, mask):
        real = torch.ones_like(mask).bool() if given_mask is None else mask.bool()
        exits = dealt(real, 4)
        run = halted(model, tokens, 4, Dealt(depths=exits[real]), kv, attention_mask=given_mask)
        expected = dense(model, tokens, 4, exits, rule, int(n or 1), given_mask)
        torch.testing.assert_close(run.logits[real], expected[real], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["adaponder", "adaponder-thaw"])
def test_a_frozen_state_is_all_of_it(name, tokens, mask):
    """AdaPonder's own mask and the keys it served, too: each iteration applies to the state a token stopped with."""
    model, real = make(name), mask.bool()
    exits = dealt(real, 3)
    policy = Dealt(depths=exits[real])
    run = halted(model, tokens, 3, policy, "recompute", attention_mask=mask)
    expected = dense(model, tokens, 3, exits, "recompute", mask=mask)
    torch.testing.assert_close(run.logits[real], expected[real], rtol=0, atol=1e-5)


def test_rules_on_keys_differ(tokens):
    """So that the references above tell them apart."""
    model = make("abbie-d")
    exits = dealt(torch.ones(BATCH, POS, dtype=torch.bool), 4)
    policy = Dealt(depths=exits.flatten())
    logits = [model(tokens, 4, halting=policy, kv=kv) for kv in KV_RULES if kv != "last"]
    for i, one in enumerate(logits):
        assert all((one - other).abs().max() > 1e-3 for other in logits[:i])
    assert torch.equal(logits[0], model(tokens, 4, halting=policy, kv="last"))


@pytest.mark.parametrize("name", [n for n in FAMILIES if not FAMILIES[n].packs])
def test_families_that_mix_tokens_elsewhere_refuse_by_name(name, tokens):
    with pytest.raises(InputError, match=f"halting: {name} mixes tokens"):
        make(name)(tokens, 2, halting="fixed_k")


def test_bridged_models_refuse(tokens):
    model = LoopedBridge(decoders.make("llama"), Loop(1, 3))
    for run in (model, lambda tokens, **given: model.generate(tokens[:1], 2, **given)):
        with pytest.raises(InputError, match="halting: a bridged model runs its source's own"):
            run(tokens, n_iters=2, halting="kl")


@pytest.mark.parametrize("name", ["adaponder", "ut-act"])
def test_a_loop_that_halts_by_itself_is_what_the_runtime_gives(name, tokens):
    """What it was trained on: AdaPonderLM's old keys, and ACT's frozen states that are computed on."""
    model = make(name, n_iters=3)
    kv = "reuse" if name == "adaponder" else "recompute"
    run = halted(model, tokens, 3, halting.policy("learned_gate", threshold=1.0), kv)
    assert len(run.exits.unique()) > 1
    torch.testing.assert_close(run.logits, model(tokens, 3), rtol=0, atol=1e-5)


def test_what_is_computed_is_what_goes_on(tokens, mask):
    model, real = make("abbie-d"), mask.bool()
    exits = dealt(real, 3)
    run = halted(model, tokens, 6, Dealt(depths=exits[real]), attention_mask=mask)
    going_on = [int((exits > k).sum()) for k in range(3)]
    assert [c.rows for c in run.iterations] == [max(n, LEAST) for n in going_on]
    assert going_on[2] < LEAST < going_on[1]
    assert run.readout.rows == int(real.sum()) and not run.looks
    one = 2 * 2 * 32 * 4  # keys and values, two blocks, four bytes
    assert run.kv_bytes == (*(one * int((exits > k).sum()) for k in range(3)), 0, 0, 0)
    last = halted(model, tokens, 6, Dealt(depths=exits[real]), "last", attention_mask=mask)
    assert last.kv_bytes == (one * int(real.sum()),)


def test_errors_name_what_is_wrong(tokens):
    model = make("abbie-d")
    with pytest.raises(InputError, match="learned_gate needs a learned gate; abbie-d has none"):
        model(tokens, 2, halting="learned_gate")
    with pytest.raises(InputError, match=r"kv='some': expected one of reuse, .* cyclic\(N\)"):
        model(tokens, 2, halting="kl", kv="some")
    with pytest.raises(InputError, match="kv='cyclic\\(0\\)'"):
        model(tokens, 2, halting="kl", kv="cyclic(0)")
    with pytest.raises(InputError, match="before the first iteration"):
        model(tokens, 2, halting=halting.policy("fixed_k", threshold=0))
    assert (
        halted(model, tokens, 2, halting.policy("fixed_k", threshold=0), "full").exits == 0
    ).all()
    with pytest.raises(InputError, match="max_iters=1: expected at least min_iters=3"):
        halting.policy("kl", min_iters=3, max_iters=1)
    with pytest.raises(InputError, match=r"threshold=1\.5: learned_gate takes 0 to 1"):
        halting.policy("learned_gate", threshold=1.5)
    with pytest.raises(InputError, match="threshold=-1: kl takes 0 to inf"):
        halting.policy("kl", threshold=-1)
    with pytest.raises(InputError, match="check_every=0"):
        halting.policy("kl", check_every=0)
    with pytest.raises(InputError, match="training mode"):
        make("abbie-d").train()(tokens, 2, halting="kl")
    spoil = [("body.1.hook_resid_post@1", lambda x, hook: x * float("nan"))]
    with pytest.raises(DivergedError, match="after 2 iterations is not finite"):
        model.run_with_hooks(tokens, n_iters=4, halting="kl", fwd_hooks=spoil)
