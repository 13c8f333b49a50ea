"""Generation: cached decoding equals uncached, sampling arguments do what they say, the cache covers all tokens."""

import pytest
import torch

from abbie_lens import errors
from abbie_lens.sampling import choose


@torch.no_grad()
def test_a_state_and_its_cache_are_never_changed_by_a_step(tiny_model):
    model = tiny_model()
    state = model.begin(torch.tensor([[1, 2, 3]]), n_iters=2, past={})
    before = set(state.context.kv)
    after = model.step(state)
    assert set(state.context.kv) == before
    assert set(after.context.kv) > before
    assert torch.equal(model.step(state).h, after.h), "the same step twice gives the same state"


@torch.no_grad()
def test_changing_the_depth_in_the_middle_raises(tiny_model):
    model = tiny_model()
    _, past = model.run_cached(torch.tensor([[1, 2, 3]]), {}, 2)
    with pytest.raises(errors.InputError, match="one generation has one n_iters"):
        model.run_cached(torch.tensor([[4]]), past, 3)


@pytest.fixture
def speaker(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=len(tiny_tokenizer), initializer_range=0.2)


def test_greedy_equals_an_uncached_loop(speaker):
    tokens = speaker.to_tokens("the cat")
    for _ in range(8):
        tokens = torch.cat([tokens, speaker(tokens, n_iters=3)[:, -1:].argmax(-1)], 1)
    arguments = dict(max_new_tokens=8, n_iters=3, temperature=0, stop_at_eos=False)
    assert torch.equal(speaker.generate(speaker.to_tokens("the cat"), **arguments), tokens)
    assert speaker.generate("the cat", **arguments) == speaker.to_string(tokens[0, 1:])
    assert "the cat" + "".join(
        speaker.generate("the cat", stream=True, **arguments)
    ) == speaker.to_string(tokens[0, 1:])
    assert torch.equal(
        speaker.generate(speaker.to_tokens("the cat"), use_kv_cache=False, **arguments), tokens
    )


def test_a_seed_repeats_and_another_differs(speaker):
    make = lambda seed: speaker.generate("the cat", 12, seed=seed, stop_at_eos=False)  # noqa: E731
    assert make(1) == make(1)
    assert make(1) != make(2)


def test_the_cache_covers_prompt_and_new_tokens_alike(speaker):
    prompt = speaker.to_tokens("the cat")
    whole, cache = speaker.generate(
        prompt,
        5,
        n_iters=4,
        seed=0,
        return_cache=True,
        names_filter=["loop.hook_state"],
        stop_at_eos=False,
    )
    assert whole.shape == (1, prompt.shape[1] + 5)
    assert torch.equal(whole[:, : prompt.shape[1]], prompt)
    assert cache["loop.hook_state"].shape[:3] == (5, *whole.shape)
    with torch.no_grad():
        state = speaker.step(speaker.begin(whole, n_iters=4))
    torch.testing.assert_close(cache["loop.hook_state@1"], state.h, atol=1e-4, rtol=0)


def test_choose_keeps_the_head_of_the_distribution():
    logits = torch.tensor([0.1, 0.4, 0.2, 0.3]).log()
    g = torch.Generator().manual_seed(0)
    draw = lambda **kw: {int(choose(logits, 1.0, generator=g, **kw)) for _ in range(300)}  # noqa: E731
    assert draw() == {0, 1, 2, 3}
    assert draw(top_k=2) == {1, 3}
    assert draw(top_p=0.39) == {1}
    assert draw(top_p=0.5) == {1, 3}
    assert int(choose(logits, 0)) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"max_new_tokens": 100}, "exceed the context of 64"),
        ({"temperature": -1.0}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"top_p": 1.5}, "top_p"),
        ({"stream": True, "return_cache": True}, "return_cache"),
    ],
)
def test_bad_arguments(speaker, arguments, says):
    with pytest.raises(errors.InputError, match=says):
        speaker.generate("the cat", **arguments)


def test_diverged_logits_are_reported():
    with pytest.raises(errors.DivergedError):
        choose(torch.tensor([0.0, float("nan")]), 1.0)
