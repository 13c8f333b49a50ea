"""Tokens keep the characters they stand for, however a document is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abbie_lens.corpus import cut_windows, encode, encoding, padded
from abbie_lens.training import train_tokenizer

TEXT = "Call me Ishmael.\nSome years ago\n\n- never mind how long - having little money.\n" * 20


@pytest.fixture(scope="module")
def tokenizer():
    # Runs of white space have tokens of their own: there a wrong cut would show.
    return train_tokenizer([TEXT, "a\n\n\n  b \n b.\n  c" * 99], vocab_size=300)


@given(text=st.text(alphabet="ab ,.'s\n\t", max_size=60))
def test_cutting_a_long_document_changes_no_token(tokenizer, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PIECE", 4)
        ids = [i for part, _ in encode(text, tokenizer) for i in part.tolist()]
    assert ids == tokenizer.encode(text)


def test_a_long_document_is_cut():
    text = "0123456789\n" * (encoding._PIECE // 5)
    pieces = list(encoding._pieces(text))
    assert max(end - start for start, end in pieces) <= encoding._PIECE + 11
    assert "".join(text[start:end] for start, end in pieces) == text


@given(text=st.text(min_size=1, max_size=60), size=st.integers(2, 9))
def test_windows_hold_every_token_once_with_its_characters(tokenizer, text, size):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(encoding, "_PIECE", 8)
        windows = list(cut_windows(["", text], tokenizer, size))
    assert all(len(w) == size - 1 for w in windows[:-1]) and {w.document for w in windows} == {1}
    assert [w.first for w in windows] == [i * (size - 1) for i in range(len(windows))]
    ids, spans = (np.concatenate([getattr(w, n) for w in windows]) for n in ("ids", "spans"))
    assert tokenizer.decode(ids) == text
    covered = np.zeros(len(text), bool)
    for token, (start, end) in zip(ids.tolist(), spans.tolist(), strict=True):
        covered[start:end] = True
        alone = tokenizer.decode([token])
        assert "\ufffd" in alone or alone == text[start:end]
    assert covered.all()


def test_padding_is_on_the_right_and_masked(tokenizer):
    long, short = cut_windows([TEXT, "money"], tokenizer, 1000)
    tokens, mask, start = padded([short, long], tokenizer)
    assert start == 1 and tokens[:, 0].tolist() == [0, 0]
    assert mask is not None and mask.sum(1).tolist() == [len(short) + 1, len(long) + 1]
    assert tokens[0, 1 : 1 + len(short)].tolist() == short.ids.tolist()
    assert padded([long], tokenizer)[1] is None
