"""Things made wrong on purpose: each must be seen by the comparison with a loop by hand.

The comparison is that of test_looped_bridge; what it compares with is computed before anything is made wrong.
"""

import sys
from functools import partial

import pytest
import torch

from abbie_lens.bridged import Anchored, Loop, LoopedBridge, rules, stage
from abbie_lens.bridged import model as model_module
from abbie_lens.bridged.loop import RULES
from abbie_lens.bridged.run_cache import RunCache
from abbie_lens.loops import AbbieD, Advance
from tests.abbie_lens.bridged import by_hand, decoders
from tests.abbie_lens.bridged.test_key_value_cache import by_and_by

START, STOP, R = 1, 3, 3
TOKENS = torch.randint(1, decoders.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(6))
ROTARY = ("llama", "neox", "qwen3", "gemma3")


def make(name):
    """Heads wide enough that more than one pair of channels turns, which a quarter of NeoX' do."""
    return decoders.make(name, **(dict(num_attention_heads=2) if name == "neox" else {}))


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.abs().max())))


@pytest.fixture(scope="module")
def expected():
    """`expected(name, rule)`: states, read-outs and logits of the loop by hand, made once."""
    made = {}

    def get(name, rule):
        if (name, rule) not in made:
            source = make(name)
            blocks = decoders.stack(source)
            hs, zs = by_hand.states(source, blocks, START, STOP, TOKENS, rule, R)
            logits, _ = by_hand.logits_and_entry(source, blocks, START, STOP, zs[-1], TOKENS)
            made[name, rule] = torch.stack(hs), torch.stack(zs), logits
        return made[name, rule]

    return get


def looped(name="llama", rule="damped", start=START, stop=STOP):
    return LoopedBridge(make(name), Loop(start, stop, rule))


@torch.no_grad()
def check_states(model, expected):
    """Errors: AssertionError where states, read-outs or logits are not those by hand."""
    hs, zs, logits = expected
    out, cache = model.run_with_cache(TOKENS, n_iters=R)
    close(cache["loop.hook_state"], hs)
    close(cache["loop.hook_readout"], zs)
    close(out, logits)
    return cache


def check(model, expected):
    """The same, and of the labels of sites by both kinds of names."""
    cache, (hs, zs, _) = check_states(model, expected), expected
    for name in ("body.0.hook_resid_pre", f"blocks.{START}.hook_resid_pre"):
        for i in range(R):
            close(cache[f"{name}@{i}"], hs[i])
    close(cache["tail.0.hook_resid_pre"], zs[-1])


def wrong(model, expected):
    with pytest.raises(AssertionError):
        check(model, expected)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("window", [(0, 3), (2, 3), (1, 2), (1, 4), (0, 2), (2, 4)])
def test_a_window_off_by_one(expected, rule, window):
    check_states(looped(rule=rule), expected("llama", rule))
    with pytest.raises(AssertionError):
        check_states(looped("llama", rule, *window), expected("llama", rule))


def test_names_off_by_one(expected, monkeypatch):
    model = looped()
    monkeypatch.setattr(model, "aliases", model.aliases | {"blocks.1.hook_resid_pre": "body.1.hook_resid_pre"})  # fmt: skip
    wrong(model, expected("llama", "damped"))


def test_rows_off_by_one(expected, monkeypatch):
    class Late(stage.Stage):
        def __call__(self, x, state):
            out = x
            self.clock.iteration = max(0, state.k - 1)
            for b, block in enumerate(self.blocks, self.first):
                out = stage.stream(state.context.calls[b](block, out))
            return out

    monkeypatch.setattr(model_module, "Stage", Late)
    wrong(looped(), expected("llama", "damped"))


def swapped(self, model, state):
    out = model.body(state.h, state)
    return Advance(out, z=out + state.h)


def whole_of_the_last(self, model, state):
    out = model.body(state.h, state)
    h = rules.damp(state.h, out, state.n_iters)
    return Advance(h, h + self.beta * (out - h))


@pytest.mark.parametrize(
    ("rule", "owner", "name", "changed"),
    [
        ("abbie-d", AbbieD, "step", swapped),
        ("abbie-d", AbbieD, "step", lambda s, m, state: Advance(m.body(state.h, state))),
        ("damped", rules, "damp", lambda x, gx, n, own=rules.damp: own(gx, x, n)),
        ("damped", rules, "damp", lambda x, gx, n, own=rules.damp: own(x, gx, n + 1)),
        ("anchored", Anchored, "step", whole_of_the_last),
    ],
    ids=["read-out and state swapped", "no carry", "x and g(x) swapped", "K + 1", "anchor moves"],
)  # fmt: skip
def test_a_carry_in_another_order(expected, monkeypatch, rule, owner, name, changed):
    model = looped(rule=rule)
    check(model, expected("llama", rule))
    monkeypatch.setattr(owner, name, changed)
    wrong(model, expected("llama", rule))


def interleaved(x):
    """The rotation of channels 2i and 2i + 1, which is another model than that of i and i + d/2."""
    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)


@pytest.mark.parametrize("name", ROTARY)
def test_rotary_channels_paired_otherwise(expected, monkeypatch, name):
    """By the tables: what TransformerLens rotates with is in no one place for all shapes."""
    right, model = expected(name, "repeat"), looped(name, "repeat")
    check(model, right)
    enter = model.conductor.enter

    def adjacent(table):
        half = table.shape[-1] // 2
        return table[..., :half].repeat_interleave(2, -1)

    def entering(*given):
        x, calls = enter(*given)
        changed = {}
        for b, call in calls.items():
            turned = {
                k: tuple(map(adjacent, v)) if k == "position_embeddings" else v
                for k, v in call.kwargs.items()
            }
            assert "position_embeddings" in turned
            changed[b] = type(call)(call.args, turned, call.by_name)
        return x, changed

    monkeypatch.setattr(model.conductor, "enter", entering)
    wrong(model, right)


def test_a_rotation_of_adjacent_channels(expected, monkeypatch):
    right = expected("llama", "repeat")
    code = sys.modules[type(decoders.make("llama")).__module__]
    monkeypatch.setattr(code, "rotate_half", interleaved)
    wrong(looped("llama", "repeat"), right)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma3"])
def test_a_norm_behind_the_block_and_not_before_its_attention(expected, name):
    right, model = expected(name, "repeat"), looped(name, "repeat")
    check(model, right)
    block = model.body[0]
    own, norm = block.forward, block.ln1.forward

    def behind(forward, *args, **kwargs):
        out = forward(*args, **kwargs)
        return (norm(out[0]), *out[1:]) if isinstance(out, tuple) else norm(out)

    block.__dict__["forward"] = partial(behind, own)
    block.ln1.__dict__["forward"] = lambda x, *_: x
    wrong(model, right)


def test_a_readout_normed_before_the_tail(expected, monkeypatch):
    model = looped()
    read = model.conductor.read
    monkeypatch.setattr(model.conductor, "read", lambda z, *rest: read(model.ln_final(z), *rest))
    wrong(model, expected("llama", "damped"))


@pytest.mark.parametrize("forgotten", [0, 1, 2], ids=["stage", "iteration", "block"])
def test_keys_filed_without_their_stage_iteration_or_block(expected, monkeypatch, forgotten):
    model = looped("llama", "repeat")
    close(by_and_by(model, TOKENS)[0], expected("llama", "repeat")[2])
    serve = RunCache.serve
    monkeypatch.setattr(
        RunCache,
        "serve",
        lambda self, kv, slot: serve(self, kv, (*slot[:forgotten], 0, *slot[forgotten + 1 :])),
    )
    with pytest.raises((AssertionError, RuntimeError)):
        close(by_and_by(model, TOKENS)[0], expected("llama", "repeat")[2])
