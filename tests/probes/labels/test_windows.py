"""Labels of stretches in the windows that a probe reads."""

import re

import numpy as np
import pytest

import probes
from abbie_lens.errors import InputError
from probes import corpus
from probes.labels import SpanLabel


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


@pytest.fixture(scope="module")
def label():
    rng = np.random.default_rng(0)
    documents = tuple(
        " ".join(rng.choice(["the", "cat", "sat", "naïve", "\U0001f600"], 60)) for _ in range(6)
    )
    found = [[(*m.span(), m.group()) for m in re.finditer(r"\S+", text)] for text in documents]
    classes = ("cat", "naïve", "sat", "the", "\U0001f600")
    return SpanLabel(
        "word", "the word", classes, documents,
        tuple(np.array([word[:2] for word in words]) for words in found),
        tuple(np.array([classes.index(word[2]) for word in words]) for words in found),
    )  # fmt: skip


def test_windows_carry_the_labels_of_their_tokens(model, label):
    found = corpus.windows(model, list(label.documents), label, 10_000, 0)
    assert max(len(w.ids) for w in found) <= model.cfg.n_ctx
    whole = {w.document: [] for w in found}
    for window in found:
        assert len(window.labels) == len(window.ids) and window.labels[0] == -1
        whole[window.document] += window.labels[window.labels >= 0].tolist()
    # Every word once, in the order of the text, also where a window ends inside it.
    assert whole == {d: label.values[d].tolist() for d in range(6)}


def test_a_probe_takes_the_texts_of_its_label(model, label):
    result = probes.linear(model, label=label, n_iters=1)
    assert result.label == "word" and result.classes == label.classes
    assert result.embedding[0] > 0.95 > result.majority[0]
    with pytest.raises(InputError, match="6 documents of its own"):
        probes.linear(model, list(label.documents[:5]), label=label, n_iters=1)


def test_numbers_are_nan_at_the_beginning_token(model, label):
    numbers = SpanLabel(
        "n", "n", (), label.documents, label.spans, tuple(v.astype(float) for v in label.values)
    )
    window = corpus.windows(model, list(label.documents), numbers, 100, 0)[0]
    assert window.labels.dtype == np.float64 and np.isnan(window.labels[0])
    assert np.isfinite(window.labels).any()


def test_numbers_are_read_by_a_regression(model, label):
    # The place of the word's class in the alphabet: a number that the embedding holds.
    numbers = SpanLabel(
        "n", "n", (), label.documents, label.spans, tuple(v.astype(float) for v in label.values)
    )
    result = probes.linear(model, label=numbers, n_iters=1)
    assert result.kind == "regression" and result.embedding[0] > 0.9 > result.majority[0]


def test_a_model_without_a_tokenizer_reads_no_text(tiny_model, label):
    with pytest.raises(InputError, match="no tokenizer"):
        corpus.windows(tiny_model(), list(label.documents), label, 100, 0)
