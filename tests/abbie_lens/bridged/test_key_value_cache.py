"""Keys and values of a looped decoder, one pair for every iteration of every block: cached equals uncached."""

import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.loop import RULES
from abbie_lens.bridged.run_cache import RunCache
from abbie_lens.errors import InputError
from tests.abbie_lens.bridged import decoders

R = 3
TOKENS = torch.randint(1, decoders.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(5))
every_shape = pytest.mark.parametrize("name", decoders.NAMES)


def looped(name, rule="damped", window=(1, 3), **changes):
    return LoopedBridge(decoders.make(name, **changes), Loop(*window, rule))


@torch.no_grad()
def by_and_by(model, tokens, mask=None, first=4):
    """Logits [batch, pos, d_vocab] of a run that reads `first` tokens at once, and then one after the other."""
    past, logits = {}, []
    for a, b in zip(
        [0, *range(first, tokens.shape[1])], range(first, tokens.shape[1] + 1), strict=True
    ):
        part = None if mask is None else mask[:, :b]
        state = model.begin(tokens[:, a:b], R, past=past, attention_mask=part)
        for _ in range(R):
            state = model.step(state)
        out, state = model._readout(state)
        logits.append(out)
        past = state.context.kv
    return torch.cat(logits, 1), past


def close(a, b):
    torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * max(1.0, float(b.abs().max())))


@every_shape
@pytest.mark.parametrize("rule", RULES)
def test_tokens_one_by_one_are_all_tokens_at_once(name, rule):
    model = looped(name, rule)
    with torch.no_grad():
        whole = model(TOKENS, n_iters=R)
    logits, past = by_and_by(model, TOKENS)
    close(logits, whole)
    blocks = {("head", 0, 0), ("tail", R, 0), *(("body", k, b) for k in range(R) for b in (0, 1))}
    assert set(past) == blocks | {("run", R)}
    assert all(k.shape[:2] == TOKENS.shape for slot, (k, _) in past.items() if slot[0] != "run")


@every_shape
@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side(name, side):
    """Right padding: a prompt shorter than its neighbour goes on after the gap."""
    model = looped(name)
    mask = torch.ones_like(TOKENS)
    mask[1, slice(0, 2) if side == "left" else slice(2, 4)] = 0
    logits, _ = by_and_by(model, TOKENS, mask)
    with torch.no_grad():
        close(logits[mask.bool()], model(TOKENS, n_iters=R, attention_mask=mask)[mask.bool()])
        alone = model(TOKENS[1:, mask[1].bool()], n_iters=R)
    # a sliding window counts columns, so tokens beyond a gap see one or two keys fewer
    if side == "left" or name not in ("gemma2", "gemma3"):
        close(logits[1, mask[1].bool()], alone[0])


@pytest.mark.parametrize("window", [(0, 4), (0, 2), (2, 4)])
def test_without_head_or_tail(window):
    model = looped("llama", "repeat", window)
    with torch.no_grad():
        close(by_and_by(model, TOKENS)[0], model(TOKENS, n_iters=R))


@every_shape
def test_generation_is_cached_unless_told_otherwise(name, monkeypatch):
    model, lengths = looped(name), []
    given = dict(max_new_tokens=8, n_iters=R, temperature=0)
    enter = model.conductor.enter
    monkeypatch.setattr(
        model.conductor, "enter", lambda t, *rest: (lengths.append(t.shape[1]), enter(t, *rest))[1]
    )
    uncached = model.generate(TOKENS[:1], use_kv_cache=False, **given)
    assert lengths == list(range(9, 17))
    lengths.clear()
    assert torch.equal(model.generate(TOKENS[:1], **given), uncached)
    assert lengths[-8:] == [9, *[1] * 7]


@torch.no_grad()
def test_a_state_is_never_changed_and_a_depth_stays():
    model = looped("llama")
    state = model.begin(TOKENS, R, past={})
    before = set(state.context.kv)
    after = model.step(state)
    assert set(state.context.kv) == before < set(after.context.kv)
    assert torch.equal(model.step(state).h, after.h)
    assert torch.equal(model.readout(after), model.readout(after))
    _, past = model.run_cached(TOKENS, {}, 2)
    with pytest.raises(InputError, match="one generation has one n_iters"):
        model.run_cached(TOKENS[:, :1], past, R)
    with pytest.raises(InputError, match="exceed the model's context of 64"):
        model.run_cached(TOKENS[:, :1].expand(-1, 60), past, 2)
    with pytest.raises(InputError, match="earlier tokens included"):
        model.begin(TOKENS, 2, past=past, attention_mask=torch.ones_like(TOKENS))


def test_hooks_see_the_tokens_of_a_generation_and_not_the_rehearsal():
    model, seen = looped("llama"), []
    count = lambda x, hook: seen.append((hook.iteration, x.shape[1]))  # noqa: E731
    with model.hooks([("loop.hook_state@3", count)]):
        model.generate(TOKENS[:1], 3, n_iters=R, temperature=0)
    assert seen == [(3, 9), (3, 1), (3, 1)]


@pytest.mark.parametrize(
    "broken",
    [
        lambda cache, k, v, *_: (k, v),
        lambda cache, k, v, *_: (_ for _ in ()).throw(RuntimeError("no such layer")),
    ],
)
def test_a_model_whose_cache_is_not_its_uncached_self_is_refused_by_name(broken, monkeypatch):
    monkeypatch.setattr(RunCache, "update", broken)
    model = looped("llama")
    with pytest.raises(InputError, match=r"LlamaForCausalLM (is off by|fails).*use_kv_cache=False"):
        model.generate(TOKENS[:1], 2)
    assert model.generate(TOKENS[:1], 2, use_kv_cache=False).shape == (1, 11)
