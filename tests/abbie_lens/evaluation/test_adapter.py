"""lm-eval's three requests, answered through its own interface."""

import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.evaluation.adapter import LoopedLM
from abbie_lens.evaluation.likelihood import log_likelihoods


@torch.no_grad()
def log_p(model, ids, r):
    """[len(ids) - 1] log p of each token after the first."""
    rows = model(torch.tensor([ids[:-1]]), n_iters=r)[0].log_softmax(-1)
    return rows.gather(-1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()


def test_loglikelihood_is_that_of_the_text_after_its_beginning(reader, request_of):
    lm = LoopedLM(reader, 3, batch_size=2)
    asked = [("the cat", " sat on"), ("", "the rat"), ("then ", "the"), ("<|endoftext|>a", "b")]
    got = lm.loglikelihood([request_of(*pair) for pair in asked])
    for (value, _), (context, continuation) in zip(got, asked, strict=True):
        ids = reader.tokenize(context + continuation)[0][0].tolist()
        assert ids[0] == 0 and ids[1] != 0  # <|endoftext|>, once
        # A space that ends the context belongs to the next word.
        n = len(reader.tokenize(context.rstrip())[0][0]) if context else 1
        assert value == pytest.approx(sum(log_p(reader, ids, 3)[n - 1 :]), abs=1e-4)


def test_depth_is_that_of_the_adapter(reader, request_of):
    asked = [request_of("the cat", " sat")]
    values = [LoopedLM(reader, r).loglikelihood(asked)[0][0] for r in (1, 2, 4)]
    assert len(set(values)) == 3
    assert LoopedLM(reader).loglikelihood(asked)[0][0] == values[1]  # the trained depth


def test_rolling_predicts_every_token_once(reader, request_of, tiny_tokenizer):
    n = reader.cfg.n_ctx
    text = "the cat sat on the mat, and the rat ran; then the cat ran. " * 4
    ids = tiny_tokenizer.encode(text)
    assert len(ids) > 2 * n and len(ids) % n
    # Windows by hand: bos before the first, one token of context before each further one, the last one
    # filled up to n tokens.
    expected = sum(log_p(reader, [0, *ids[:n]], 2))
    at = n
    while at + n <= len(ids):
        expected += sum(log_p(reader, ids[at - 1 : at + n], 2))
        at += n
    rest = len(ids) - at
    expected += sum(log_p(reader, ids[-(n + 1) :], 2)[-rest:])
    short = "the cat sat"
    whole = sum(log_p(reader, [0, *tiny_tokenizer.encode(short)], 2))
    got = LoopedLM(reader, 2, batch_size=3).loglikelihood_rolling(
        [request_of(text), request_of(short), request_of("")]
    )
    assert got == pytest.approx([expected, whole, 0.0], abs=1e-3)


def test_generation_keeps_the_order_and_counts(reader, request_of):
    told = []
    lm = LoopedLM(reader, 2, progress=lambda done, total: told.append((done, total)))
    prompts = ["the", "the cat sat on", "and the rat"]
    settings = {"max_gen_toks": 4, "until": ["zz"]}
    got = lm.generate_until([request_of(p, settings) for p in prompts])
    for prompt, text in zip(prompts, got, strict=True):
        tokens = reader.tokenize(prompt)[0]
        whole = reader.generate(tokens, 4, n_iters=2, temperature=0)[0, tokens.shape[1] :]
        assert text == reader.to_string(whole)
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_a_request_draws_does_not_depend_on_the_others(reader, request_of):
    settings = {"max_gen_toks": 6, "do_sample": True, "temperature": 2.0}
    a, b = request_of("the cat", settings), request_of("the rat ran and then", settings)
    alone = LoopedLM(reader, 1, seed=3).generate_until([a])
    assert LoopedLM(reader, 1, seed=3).generate_until([a, b])[0] == alone[0]
    assert LoopedLM(reader, 1, seed=4).generate_until([a]) != alone


def test_truncated_prompts_are_counted(reader, request_of):
    lm = LoopedLM(reader, 1)
    lm.loglikelihood([request_of("the cat " * 30, "sat"), request_of("the cat", " sat")])
    lm.generate_until([request_of("the cat " * 30, {"max_gen_toks": 4})])
    assert (lm.n_truncated, lm.n_requests) == (2, 3)


def test_a_model_that_cannot_read_text_is_refused(tiny_model, reader):
    with pytest.raises(InputError, match="tokenizer"):
        LoopedLM(tiny_model())
    with pytest.raises(InputError, match="n_iters=-1"):
        LoopedLM(reader, -1)
    with pytest.raises(InputError, match="batch_size=0"):
        LoopedLM(reader, 1, batch_size=0)


def test_scores_of_pairs_are_those_of_the_batched_computation(reader, request_of):
    got = LoopedLM(reader, 2).loglikelihood([request_of("the", " cat")])
    ids = reader.tokenize("the cat")[0][0].tolist()
    assert got == log_likelihoods(reader, [(ids[:-1], ids[-1:])], 2)
