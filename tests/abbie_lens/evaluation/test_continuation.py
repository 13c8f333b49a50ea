"""Generation for tasks: greedy as `model.generate`, ended by stop strings, lengths and the end token."""

import pytest

from abbie_lens.errors import InputError
from abbie_lens.evaluation.continuation import Ending, continue_until
from abbie_lens.halting.decode import Decoder


def ending(n_ctx=24, **settings):
    return Ending.from_settings(settings, n_ctx)


@pytest.fixture(scope="module")
def greedy(reader):
    """(prompt, what follows it greedily), of several tokens."""
    prompt = reader.tokenize("the cat sat")[0][0].tolist()
    whole = reader.generate([prompt], 8, n_iters=3, temperature=0)[0].tolist()
    return prompt, reader.to_string(whole[len(prompt) :])


def test_greedy_equals_generate(reader, greedy):
    prompt, text = greedy
    assert len(text) > 2
    assert continue_until(reader, prompt, ending(max_gen_toks=8), 3) == text
    assert continue_until(reader, prompt, ending(max_gen_toks=8), 1) != text


def test_a_stop_string_ends_the_text_and_is_not_in_it(reader, greedy):
    prompt, text = greedy
    for stop in (text[2], text[1:4], text[0]):
        got = continue_until(reader, prompt, ending(max_gen_toks=8, until=[stop, "never"]), 3)
        assert got == text[: text.index(stop)]
    # the stop that comes first in the text, not in the list
    stops = [text[4], text[2]]
    got = continue_until(reader, prompt, ending(max_gen_toks=8, until=stops), 3)
    assert got == text[: min(text.index(s) for s in stops)]


def test_no_token_is_drawn_after_a_stop(reader, greedy, monkeypatch):
    prompt, text = greedy
    steps = []
    turn = Decoder.__call__
    monkeypatch.setattr(Decoder, "__call__", lambda *a: steps.append(1) or turn(*a))
    continue_until(reader, prompt, ending(max_gen_toks=8, until=text[0]), 3)
    assert len(steps) == 1


def test_the_end_token_ends_the_text(reader, greedy, monkeypatch):
    prompt, _ = greedy
    first, second = reader.generate([prompt], 2, n_iters=3, temperature=0)[0, -2:].tolist()
    assert first != second
    monkeypatch.setattr(
        type(reader.tokenizer), "eos_token_id", property(lambda self: second), raising=False
    )
    got = continue_until(reader, prompt, ending(max_gen_toks=8), 3)
    assert got == reader.to_string([first])


def test_a_long_prompt_loses_its_beginning(reader):
    prompt = list(range(1, 41))
    got = continue_until(reader, prompt, ending(max_gen_toks=4), 2)
    whole = reader.generate([prompt[-20:]], 4, n_iters=2, temperature=0)[0, 20:]
    assert got == reader.to_string(whole)


def test_sampling_follows_the_seed_and_the_temperature(reader, greedy):
    prompt, text = greedy
    hot = ending(max_gen_toks=8, do_sample=True, temperature=3.0)
    draws = {continue_until(reader, prompt, hot, 3, seed=s) for s in range(4)}
    assert len(draws) > 1
    assert continue_until(reader, prompt, hot, 3, seed=1) in draws
    assert continue_until(reader, prompt, hot, 3, seed=1) == continue_until(
        reader, prompt, hot, 3, seed=1
    )
    one = ending(max_gen_toks=8, do_sample=True, temperature=3.0, top_k=1)
    assert continue_until(reader, prompt, one, 3, seed=7) == text


@pytest.mark.parametrize(
    ("settings", "temperature"),
    [
        ({}, 0.0),
        ({"temperature": 0.7}, 0.7),
        ({"do_sample": False, "temperature": 0.7}, 0.0),
        ({"do_sample": True}, 1.0),
        ({"do_sample": True, "temperature": 0.2}, 0.2),
        ({"temperature": 0.0}, 0.0),
    ],
)
def test_do_sample_outranks_the_temperature(settings, temperature):
    assert ending(**settings).temperature == temperature


def test_lengths_by_any_name_and_by_default():
    assert ending(max_gen_toks=5, max_tokens=9).n_new == 5
    assert ending(max_new_tokens=6).n_new == 6
    assert ending().n_new == 12 and ending(n_ctx=4096).n_new == 256
    assert ending(until="x").until == ("x",) and ending(until=["", "y"]).until == ("y",)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"max_gen_toks": 24}, "max_gen_toks=24"),
        ({"max_gen_toks": 0}, "max_gen_toks=0"),
        ({"num_beams": 4}, "num_beams=4"),
        ({"frobnicate": 1}, "frobnicate=1"),
    ],
)
def test_settings_that_cannot_be_kept_are_errors(settings, said):
    with pytest.raises(InputError, match=said):
        ending(**settings)
    assert ending(num_beams=1, repetition_penalty=1.0).temperature == 0
