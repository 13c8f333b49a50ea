"""Generation whose tokens stop at depths of their own."""

import pytest
import torch

from abbie_lens import halting
from abbie_lens.context import Context
from abbie_lens.errors import InputError
from abbie_lens.halting.decode import Decoder
from abbie_lens.halting.run import halted
from abbie_lens.kv_store import kv_rule
from tests.abbie_lens.families import LOOPS, make
from tests.abbie_lens.halting.dense import Dealt

R, N_PROMPT, N = 4, 4, 9


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(0, 100, (1, N), generator=torch.Generator().manual_seed(2))


class OneByOne:
    """Keys and values of every (block, iteration, token), served to a later token as the rule says."""

    def __init__(self, rule, n, exits):
        self.rule, self.n, self.exits, self.all = rule, n, exits, {}

    def __call__(self, slot, k, v, rows):
        stage, i, block = slot
        own = self.all.setdefault((stage, block), [])
        if i == 0 or stage != "body":
            own.append([])
        own[-1].append((k, v))
        first = own[-1][0] if self.rule == "first" and stage == "body" else (k, v)
        served = [past[self._which(i, len(past)) if stage == "body" else -1] for past in own[:-1]]
        return tuple(torch.cat(pairs, 1) for pairs in zip(*served, first, strict=True))

    def _which(self, i, e):
        if self.rule == "first":
            return 0
        if self.rule == "last":
            return e - 1
        if self.rule == "reuse":
            return min(i, e - 1)
        same = [j for j in range(e) if j % self.n == i % self.n]
        return same[-1] if same else e - 1


@torch.no_grad()
def one_by_one(model, tokens, exits, rule, n):
    """Logits [pos, d_vocab]: every token alone, after all before it."""
    store, logits = OneByOne(rule, n, exits), []
    for p in range(tokens.shape[1]):
        whole = model.begin(tokens, R).context
        rotary = None if whole.rotary is None else tuple(t[:, p : p + 1] for t in whole.rotary)
        new = tokens[:, p : p + 1]
        context = Context(whole.positions[:, p : p + 1], None, rotary, tokens=new, store=store)
        state = model.enter(new, None, R, context)
        for _ in range(int(exits[p])):
            state = model.step(state)
        logits.append(model.readout(state)[0, 0])
    return torch.stack(logits)


@pytest.mark.parametrize("kv", ["reuse", "first", "last", "cyclic(2)", "cyclic(3)"])
@pytest.mark.parametrize("name", ["abbie-d", "ouro"])
def test_later_tokens_find_the_keys_that_the_rule_keeps(name, kv, tokens):
    model = make(name)
    rule, _, n = kv.rstrip(")").partition("(")
    exits = torch.randint(1, R + 1, (N,), generator=torch.Generator().manual_seed(5))
    expected = one_by_one(model, tokens, exits, rule, int(n or 1))
    decoder = Decoder(model, R, N, None, kv_rule(kv))
    for p in range(N):
        decoder.policy = Dealt(depths=exits[p : p + 1])
        logits = decoder(tokens[:, p : p + 1])[0]
        torch.testing.assert_close(logits, expected[p], rtol=0, atol=1e-5)
    assert torch.equal(torch.cat(decoder.exits, 1)[0], exits)


@pytest.mark.parametrize("kv", ["reuse", "recompute", "first"])
@pytest.mark.parametrize("name", ["abbie-d", "0pt", "flt", "ponder", "hrm", "ut-act", "parcae"])
def test_cached_is_uncached(name, kv, tokens):
    """Prompt at once, then token after token: what one run over all of them gives."""
    model = make(name)
    rule = halting.policy("direction_distance", threshold=0.4)
    whole = halted(model, tokens, R, rule, kv)
    decoder = Decoder(model, R, N, rule, kv_rule(kv))
    logits = [decoder(tokens[:, :N_PROMPT])[0]]
    logits += [decoder(tokens[:, p : p + 1])[0] for p in range(N_PROMPT, N)]
    assert torch.equal(torch.cat(decoder.exits, 1), whole.exits)
    torch.testing.assert_close(
        torch.stack(logits), whole.logits[0, N_PROMPT - 1 :], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("name", [n for n, loop in LOOPS.items() if loop.packs][::3])
def test_without_a_policy_decoding_is_the_plain_run(name, tokens):
    model = make(name)
    r = min(3, model.cfg.loop.max_depth or 3)
    decoder = Decoder(model, r, N, None, kv_rule("reuse"))
    logits = [decoder(tokens[:, :N_PROMPT])[0]]
    logits += [decoder(tokens[:, p : p + 1])[0] for p in range(N_PROMPT, N)]
    expected = model(tokens, r)[0, N_PROMPT - 1 :]
    torch.testing.assert_close(torch.stack(logits), expected, rtol=0, atol=1e-5)


def test_generate_halts(tokens):
    model = make("abbie-d")
    rule = halting.policy("kl", threshold=0.05)
    given = dict(n_iters=6, temperature=0, halting=rule, return_exits=True)
    cached, exits = model.generate(tokens, 8, **given)
    anew, exits_anew = model.generate(tokens, 8, use_kv_cache=False, **given)
    assert torch.equal(cached, anew) and torch.equal(exits, exits_anew)
    assert exits.shape == (N + 7,) and len(exits.unique()) > 1
    full, exits_full = model.generate(tokens, 8, kv="full", **given)
    assert full.shape == cached.shape and exits_full.shape == exits.shape
    out, cache = model.generate(
        tokens, 3, n_iters=6, temperature=0, halting=rule, return_cache=True,
        names_filter="loop.hook_readout",
    )  # fmt: skip
    assert torch.equal(out, cached[:, : N + 3]) and cache["loop.hook_readout"].shape[0] == 7


def test_patterns_are_seen_while_decoding(tokens):
    """The explicit path of attention, over all keys so far."""
    model, widths = make("abbie-d"), []
    rule = halting.policy("fixed_k", threshold=2)
    plain, seen = (Decoder(model, R, N, rule, kv_rule("reuse")) for _ in range(2))
    hook = ("body.0.attn.hook_pattern", lambda x, hook: widths.append(x.shape[-2:]))
    for new in (tokens[:, :N_PROMPT], tokens[:, N_PROMPT : N_PROMPT + 1]):
        expected = plain(new)
        with model.hooks([hook]):
            torch.testing.assert_close(seen(new), expected, rtol=0, atol=1e-5)
    assert widths == [(N_PROMPT, N_PROMPT)] * 2 + [(1, N_PROMPT + 1)] * 2


def test_generate_refuses_what_it_cannot_do(tokens):
    model = make("abbie-d")
    with pytest.raises(InputError, match="return_exits=True: only with halting"):
        model.generate(tokens, 2, return_exits=True)
    with pytest.raises(InputError, match="kv='last' one pass over the finished text"):
        model.generate(tokens, 2, halting="kl", kv="last", return_cache=True)
    with pytest.raises(InputError, match="mor mixes tokens"):
        make("mor").generate(tokens, 2, halting="kl")


@pytest.mark.parametrize(
    ("kv", "slots"), [("reuse", 2), ("recompute", 4), ("last", 1), ("cyclic(3)", 2)]
)
def test_memory_is_whole_slots_of_the_deepest_token(kv, slots, tokens):
    """Keys and values of all positions there will be, one slot for each iteration that any token has filled."""
    model = make("abbie-d")
    decoder = Decoder(model, R, N, halting.policy("fixed_k", threshold=2), kv_rule(kv))
    decoder(tokens[:, :N_PROMPT])
    one = 2 * N * 32 * 4  # keys and values, four bytes
    assert decoder.store.nbytes == (1 + 2 * slots + 1) * one  # Head, two blocks of the Body, Tail
