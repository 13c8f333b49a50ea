"""Runs whose tokens halt, against the same rules computed densely."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import halting
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import DivergedError, InputError
from abbie_lens.halting.run import halted
from abbie_lens.loops import FAMILIES
from abbie_lens.rows import LEAST
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make
from tests.abbie_lens.halting.dense import Dealt, dense

PACKING = [name for name, loop in LOOPS.items() if loop.packs]
KV_RULES = ("reuse", "recompute", "first", "last", "cyclic(2)", "full")
BATCH, POS = 3, 12


def depth_of(model, most=4):
    limit = model.cfg.loop.max_depth
    return most if limit is None else min(most, limit)


def dealt(real, r, seed=0):
    """Exit steps [batch, pos], 1 ... r; -1 for padding. One row of the batch stops early."""
    exits = torch.randint(1, r + 1, real.shape, generator=torch.Generator().manual_seed(seed))
    exits[-1] = exits[-1].clamp_max(2)
    return exits.masked_fill(~real, -1)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 100, (BATCH, POS), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def mask():
    """Left padding in one row, right padding in another."""
    mask = torch.ones(BATCH, POS, dtype=torch.long)
    mask[0, :4], mask[1, -3:] = 0, 0
    return mask


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


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 4))
def test_masks_are_monotone_and_exits_lie_within_the_limits(seed, every, least):
    """Whatever a rule says at each k, a token that stopped stays stopped."""
    noise = torch.randn(6, 5, 4, generator=torch.Generator().manual_seed(seed))
    rules = (
        halting.policy("raw_distance", threshold=2.0),
        halting.policy("second_order", threshold=1.0),
        halting.policy("cosine", threshold=1.0),
    )
    for rule in (*rules, halting.AnyOf(policies=rules), halting.AllOf(policies=rules)):
        rule = rule.replace(check_every=every, min_iters=least, max_iters=5)
        seen = [halting.Observation(k, z) for k, z in enumerate(noise)]
        decision, before = rule.init(seen[0]), torch.zeros(5, dtype=torch.bool)
        for k, observation in enumerate(seen):
            decision = decision if k == 0 else rule.check(decision, observation)
            assert (decision.halted | ~before).all(), "a token came back"
            new = decision.halted & ~before
            assert not new.any() or k == 5 or (k >= least and k % every == 0)
            before = decision.halted
        assert before.all()


def test_permuting_the_batch_permutes_the_result(tokens, mask):
    model, order = make("abbie-d"), torch.tensor([2, 0, 1])
    rule = halting.policy("direction_distance", threshold=0.3)
    one = halted(model, tokens, 5, rule, attention_mask=mask)
    two = halted(model, tokens[order], 5, rule, attention_mask=mask[order])
    assert torch.equal(two.exits, one.exits[order]) and len(one.exits.unique()) > 2
    torch.testing.assert_close(two.logits, one.logits[order], rtol=0, atol=1e-5, equal_nan=True)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side, tokens):
    model, pad = make("abbie-d"), torch.zeros(BATCH, 3, dtype=torch.long)
    rule = halting.policy("kl", threshold=0.05)
    plain = halted(model, tokens, 5, rule)
    parts = [pad, tokens] if side == "left" else [tokens, pad]
    mask = torch.cat([torch.ones_like(p) if p is tokens else p for p in parts], 1)
    run = halted(model, torch.cat(parts, 1), 5, rule, attention_mask=mask)
    at = slice(3, None) if side == "left" else slice(POS)
    assert torch.equal(run.exits[:, at], plain.exits) and len(plain.exits.unique()) > 1
    torch.testing.assert_close(run.logits[:, at], plain.logits, rtol=0, atol=1e-5)
    loss = model(torch.cat(parts, 1), 5, halting=rule, attention_mask=mask, return_type="loss")
    assert loss.isfinite()


@pytest.mark.parametrize("kv", ["reuse", "full"])
@pytest.mark.parametrize("name", sorted(halting.RULES))
def test_later_tokens_change_nothing_earlier(name, kv, tokens):
    """Bit for bit, though other numbers of rows are packed where the last token stops elsewhere."""
    model = make("ouro")
    rule = halting.policy(name)
    changed = tokens.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 100
    # Thresholds in the middle of what the rule takes, so that tokens do stop at different k.
    values = []
    halted(model, tokens, 5, _Watching(rule, values), kv="full")
    finite = torch.cat(values[1:]).double()
    finite = finite[finite.isfinite()]
    threshold = float(finite.quantile(0.4))
    if name == "argmax_stable":
        threshold = 1
    rule = rule.replace(threshold=max(threshold, rule.allowed[0]), min_iters=1)
    one, two = (halted(model, t, 5, rule, kv) for t in (tokens, changed))
    assert torch.equal(one.exits[:, :-1], two.exits[:, :-1])
    assert torch.equal(one.logits[:, :-1], two.logits[:, :-1])


class _Watching:
    """A rule that never stops a token and keeps its values."""

    def __init__(self, rule, values):
        self.rule, self.values = rule, values

    def __getattr__(self, name):
        return getattr(self.rule, name)

    def init(self, seen):
        return self._kept(self.rule.init(seen))

    def check(self, before, seen):
        return self._kept(self.rule.check(before, seen))

    def _kept(self, decision):
        self.values.append(decision.value)
        return type(decision)(**{**vars(decision), "halted": torch.zeros_like(decision.halted)})


@pytest.mark.parametrize("sites", [["body.1.attn.hook_pattern"], ["body.0.hook_resid_post"]])
def test_caches_hold_what_was_computed(sites, tokens, mask):
    """NaN at halted tokens and padding, the explicit path of attention included; states keep their last value."""
    model, real = make("abbie-d"), mask.bool()
    exits = dealt(real, 3)
    policy = Dealt(depths=exits[real])
    states = ["loop.hook_state", "loop.hook_readout"]
    plain = halted(model, tokens, 4, policy, attention_mask=mask)
    logits, cache = model.run_with_cache(
        tokens, n_iters=4, names_filter=sites + states, halting=policy, attention_mask=mask
    )
    torch.testing.assert_close(logits, plain.logits, rtol=0, atol=1e-5, equal_nan=True)
    axis = 2 if "pattern" in sites[0] else 1
    seen = cache[sites[0]].movedim(axis + 1, 2).flatten(3)
    assert seen.shape[0] == 4
    for k in range(4):
        assert torch.equal(~seen[k].isnan().any(-1), exits > k)
    z = cache["loop.hook_readout"]
    assert z.shape[0] == 5
    torch.testing.assert_close(z[-1], plain.z, rtol=0, atol=1e-5, equal_nan=True)
    assert torch.equal(z[4][real & (exits <= 2)], z[2][real & (exits <= 2)])


def test_hooks_see_whole_batches_and_change_what_goes_on(tokens):
    model = make("abbie-c")
    exits = dealt(torch.ones(BATCH, POS, dtype=torch.bool), 3)
    policy, seen = Dealt(depths=exits.flatten()), []

    def double(x, hook):
        seen.append((hook.iteration, x.shape, hook.computed))
        return 2 * x

    hooks = [("body.0.hook_mlp_out@1", double)]
    logits = model.run_with_hooks(tokens, n_iters=3, halting=policy, fwd_hooks=hooks)
    assert seen[0][:2] == (1, (BATCH, POS, 32)) and torch.equal(seen[0][2], exits > 1)
    changed = (logits - model(tokens, 3, halting=policy)).abs().amax(-1) > 1e-4
    assert changed[exits > 1].all() and changed.any()


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
