"""What must not matter does not: order and padding of a batch, tokens that come later."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import halting
from abbie_lens.halting.run import halted
from tests.abbie_lens.families import make
from tests.abbie_lens.halting.dense import BATCH, POS


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
