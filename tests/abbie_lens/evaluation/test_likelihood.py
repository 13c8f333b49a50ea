"""Batched log-likelihoods equal a direct computation, one sequence at a time."""

import pytest
import torch

from abbie_lens.errors import DivergedError, InputError
from abbie_lens.evaluation.likelihood import log_likelihoods, truncated


def pairs(n_ctx, seed=0, n=17):
    """Pairs of every kind: one-token and long continuations, some over the context."""
    draw = torch.Generator().manual_seed(seed)
    made = []
    for _ in range(n):
        a, b = torch.randint(1, n_ctx, (2,), generator=draw).tolist()
        ids = torch.randint(0, 300, (a + b,), generator=draw).tolist()
        made.append((ids[:a], ids[a:]))
    return [*made, ([1], [2]), ([3] * (n_ctx + 5), [4]), ([5], [6] * n_ctx)]


@torch.no_grad()
def direct(model, context, continuation, r):
    """One by one, without padding: what the definition says."""
    ids = (context + continuation)[-(model.cfg.n_ctx + 1) :]
    log_p = model(torch.tensor([ids[:-1]]), n_iters=r)[0].log_softmax(-1)
    rows = log_p[-len(continuation) :]
    value = sum(float(rows[i, token]) for i, token in enumerate(continuation))
    return value, rows.argmax(-1).tolist() == continuation


@pytest.mark.parametrize("r", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 100])
def test_equal_a_direct_computation(reader, r, batch_size):
    asked = pairs(reader.cfg.n_ctx)
    got = log_likelihoods(reader, asked, r, batch_size=batch_size)
    for (value, greedy), pair in zip(got, asked, strict=True):
        expected, expected_greedy = direct(reader, *pair, r)
        assert value == pytest.approx(expected, abs=1e-4)
        assert greedy == expected_greedy


def test_greedy_is_what_generation_yields(reader):
    context = [0, 41, 7]
    whole = reader.generate(torch.tensor(context), 5, n_iters=2, temperature=0)[0].tolist()
    continuation = whole[len(context) :]
    other = [*continuation[:-1], (continuation[-1] + 1) % 300]
    got = log_likelihoods(reader, [(context, continuation), (context, other)], 2)
    assert [greedy for _, greedy in got] == [True, False]
    assert got[0][0] > got[1][0]


def test_only_a_context_that_does_not_fit_is_cut(reader):
    n = reader.cfg.n_ctx
    assert not truncated(([1] * n, [2]), n) and truncated(([1] * (n + 1), [2]), n)
    ids = torch.randint(0, 300, (n + 2,), generator=torch.Generator().manual_seed(3)).tolist()
    long, short = (ids[:-1], ids[-1:]), (ids[1:-1], ids[-1:])
    (cut,), (fits,) = log_likelihoods(reader, [long]), log_likelihoods(reader, [short])
    assert cut == fits


def test_every_finished_batch_is_told(reader):
    told = []
    log_likelihoods(reader, pairs(24), 1, batch_size=8, on_batch=told.append)
    assert sum(told) == 20 and max(told) == 8


def test_what_cannot_be_scored_is_an_error(reader, tiny_model):
    with pytest.raises(InputError, match=r"continuation: 25 tokens.*24"):
        log_likelihoods(reader, [([1], [2] * 25)])
    with pytest.raises(InputError, match="context"):
        log_likelihoods(reader, [([], [2])])
    assert log_likelihoods(reader, [([1], [])]) == [(0.0, True)]
    assert log_likelihoods(reader, []) == []


def test_logits_that_are_not_finite_are_no_answer(reader):
    """An arg max over NaN is 0, and 0 is often the right choice."""
    from abbie_lens import HookedLoopedTransformer

    broken = HookedLoopedTransformer(reader.cfg, reader.tokenizer).eval()
    with torch.no_grad():
        broken.ln_final.weight.fill_(float("nan"))
    with pytest.raises(DivergedError, match="finite"):
        log_likelihoods(broken, [([1, 2], [3])], 1)
