"""Held-out loss has known values, and its interval has the width statistics gives it."""

import json
import math

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AdaPonder
from abbie_lens.training import Evaluation, TokenFile, evaluate
from abbie_lens.training.card import nll_table
from abbie_lens.training.evaluate import bootstrap_means, windows


def text(*lengths, vocabulary=100):
    """Documents of these many tokens, each after a separator."""
    generator = np.random.default_rng(0)
    documents = [np.append(0, generator.integers(1, vocabulary, n)) for n in lengths]
    starts = np.cumsum([0, *map(len, documents[:-1])])
    tokens = np.concatenate(documents).astype(np.uint16)
    return TokenFile("none.bin", tokens, starts, vocabulary, 0, "")


def test_every_token_but_the_separators_is_predicted_once():
    held_out = text(200, 3, 64)
    rows = windows(held_out, 33)
    seen = np.concatenate([np.arange(start, start + length) for start, length, _ in rows])
    assert seen.tolist() == np.flatnonzero(held_out.tokens != 0).tolist()
    assert rows[:, 1].max() == 32


def test_a_uniform_model_has_log_vocabulary_at_every_depth(tiny_model):
    model = tiny_model()
    torch.nn.init.zeros_(model.embed.weight)
    result = evaluate(model, text(150, 70), (0, 1, 3))
    assert result.nll == pytest.approx((math.log(100),) * 3, abs=1e-5)
    assert result.low == pytest.approx(result.high, abs=1e-5)
    assert (result.n_tokens, result.n_documents) == (220, 2)


def test_loss_equals_a_plain_loop_over_windows(tiny_model):
    model, held_out = tiny_model(), text(150, 70)
    nll = []
    for document in np.split(held_out.tokens, held_out.documents[1:]):
        for start in range(1, len(document), 63):
            window = torch.tensor([[0, *document[start : start + 63].tolist()]])
            log_p = model(window, n_iters=3)[0, :-1].log_softmax(-1)
            nll += (-log_p[range(len(log_p)), window[0, 1:]]).tolist()
    for batch_size in (1, 32):
        result = evaluate(model, held_out, (3,), batch_size=batch_size)
        assert result.nll[0] == pytest.approx(np.mean(nll), rel=1e-5)


def test_at_most_so_many_windows_spread_over_the_text(tiny_model):
    done = []
    result = evaluate(
        tiny_model(), text(640, 640), (1,), max_windows=4, batch_size=3,
        progress=lambda *now: done.append(now),
    )  # fmt: skip
    assert done == [(3, 4), (4, 4)]
    assert result.n_documents == 2


def test_nothing_to_predict(tiny_model):
    with pytest.raises(InputError, match="no token to predict"):
        evaluate(tiny_model(), text(0), (1,))


def test_bootstrap_of_one_document_has_the_standard_error():
    generator = np.random.default_rng(1)
    blocks = generator.normal(5, 1, (400, 1))
    draws = bootstrap_means(blocks, np.ones(400), np.zeros(400, int), 3000, 0)
    assert draws.mean() == pytest.approx(blocks.mean(), abs=0.01)
    assert draws.std() == pytest.approx(blocks.std() / 20, rel=0.06)


def test_bootstrap_sees_differences_between_documents():
    document = np.repeat(np.arange(5), 50)
    blocks = document[:, None].astype(float)
    draws = bootstrap_means(blocks, np.ones(250), document, 3000, 0)
    # Blocks are all alike within a document: only the draw of five documents varies.
    assert draws.std() == pytest.approx(np.arange(5).std() / math.sqrt(5), rel=0.06)


def test_evaluation_survives_json_and_fills_the_table():
    made = Evaluation((1, 2), (4.5, 4.25), (4.4, 4.1), (4.6, 4.3), 0.95, 1234, 7, 20)
    assert Evaluation.from_dict(json.loads(json.dumps(made.to_dict()))) == made
    table = nll_table(made)
    assert "| 2 | 4.250 | 4.100 – 4.300 | 70.1 |" in table
    assert "1,234 held-out tokens of 7 documents" in table


def test_a_depth_that_the_loop_refuses_is_nan_and_null_in_json(tiny_model):
    model = tiny_model(AdaPonder(max_iters=2), n_head_blocks=0, n_tail_blocks=0)
    found = evaluate(model, text(90), (0, 2, 3), n_bootstrap=2)
    assert np.isnan([found.nll[2], found.low[2], found.high[2]]).all()
    assert found.nll[1] == evaluate(model, text(90), (2,), n_bootstrap=2).nll[0]
    plain = found.to_dict()
    assert plain["nll"][2] is None and json.dumps(plain, allow_nan=False)
    again = Evaluation.from_dict(json.loads(json.dumps(plain)))
    assert np.isnan(again.nll[2]) and again.to_dict() == plain
    assert "| 3 | – | refused | – |" in nll_table(found)
