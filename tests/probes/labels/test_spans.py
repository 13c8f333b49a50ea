"""Which tokens get the label of a word, whatever the tokenizer."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens.errors import InputError
from probes.labels.spans import SpanLabel, aligned, sharpened
from tests.probes.labels.conftest import KINDS

TEXT = "the cat  naïve \U0001f600, 日本 cathe\n\n“the”"


def label(text, spans, values, classes=("a", "b", "c"), **settings):
    return SpanLabel(
        "it", "it", classes, (text,), (np.array(spans),), (np.array(values),), **settings
    )


def words(text):
    return [match.span() for match in re.finditer(r"\w+|[^\w\s]", text)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_word_is_on_the_token_that_ends_it(kind, spans_of):
    tokens, found = spans_of(kind, TEXT), words(TEXT)
    exact = sharpened(tokens, TEXT)
    for (_, end), (last,) in zip(found, aligned(np.array(found), exact, "last"), strict=True):
        assert exact[last, 0] < end <= exact[last, 1]
        following = exact[last + 1 :]
        assert not ((following[:, 0] < end) & (following[:, 1] > end - 1)).any()


@pytest.mark.parametrize("kind", KINDS)
def test_first_last_and_all_pieces(kind, spans_of):
    text = "the naïve 日 cat"
    tokens, word = spans_of(kind, text), np.array([[4, 9]])
    (every,), (first,), (last,) = (
        aligned(word, tokens, piece) for piece in ("all", "first", "last")
    )
    assert len(every) > 1 and (np.diff(every) == 1).all()
    assert first[0] == every[0] and last[0] == every[-1]
    # Together they are the word, with at most the space before it.
    assert text[tokens[every, 0].min() : tokens[every, 1].max()].strip() == "naïve"


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_of_one_character_carry_its_label_on_the_last(kind, spans_of):
    text = "the \U0001f600, cat"
    tokens = spans_of(kind, text)
    got = label(text, [(4, 5), (5, 6)], [0, 1]).of(0, [], tokens)
    held = {value: np.flatnonzero(got == value) for value in (0, 1)}
    assert [len(where) for where in held.values()] == [1, 1]
    assert held[1][0] == held[0][0] + 1


def test_bytes_of_a_run_are_told_apart():
    # As byte fallback gives "😀,": five bytes, each with the span of both characters.
    spans = np.array([[0, 1], *[[1, 3]] * 5, [3, 4]])
    got = sharpened(spans, "a\U0001f600,b")
    assert got.tolist() == [[0, 1], *[[1, 2]] * 4, [2, 3], [3, 4]]
    # Not single bytes: left as they are.
    assert sharpened(np.array([[0, 3], [0, 3]]), "abc").tolist() == [[0, 3], [0, 3]]


def test_a_token_of_two_words_has_no_label_unless_they_agree():
    tokens = np.array([[0, 5], [5, 9]])
    assert label("don't eat", [(0, 2), (2, 5), (6, 9)], [0, 1, 2]).of(0, [], tokens).tolist() == [
        -1,
        2,
    ]
    assert label("don't eat", [(0, 2), (2, 5), (6, 9)], [1, 1, 2]).of(0, [], tokens).tolist() == [
        1,
        2,
    ]
    # A third word that agrees with the first changes nothing.
    assert label("a.b", [(0, 1), (1, 2), (2, 3)], [0, 1, 0]).of(0, [], np.array([[0, 3]]))[0] == -1


def test_a_token_at_the_seam_of_two_words_belongs_to_the_one_that_it_ends():
    tokens = np.array([[0, 2], [2, 5], [5, 8]])  # "do", "n'tc", "ats" over "don't" + "cats"
    got = label("don'tcat", [(0, 5), (5, 8)], [0, 1]).of(0, [], tokens)
    assert got.tolist() == [-1, 0, 1]
    got = label("don'tcat", [(0, 3), (3, 8)], [0, 1]).of(0, [], tokens)
    assert got.tolist() == [-1, 0, 1]


def test_what_was_cut_off_has_no_label():
    tokens = np.array([[0, 3], [3, 6]])
    got = label("the catty sat", [(0, 3), (4, 9), (10, 13)], [0, 1, 2]).of(0, [], tokens)
    assert got.tolist() == [0, -1]
    first = label("the catty sat", [(0, 3), (4, 9), (10, 13)], [0, 1, 2], piece="first")
    assert first.of(0, [], tokens).tolist() == [0, 1]


def test_numbers_are_nan_where_undefined_and_blanks_do_not_count():
    tokens = np.array([[0, 3], [3, 7], [7, 8]])
    got = label("the cat.", [(0, 4), (3, 7)], [0.5, -2], classes=()).of(0, [], tokens)
    assert got[:2].tolist() == [0.5, -2] and np.isnan(got[2])


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from(["the", " cat", "日", " ", "\U0001f600", "ï", "\n", "q"]), min_size=1)
)
def test_every_visible_word_of_any_text_has_a_token(spans_of, pieces):
    text = "".join(pieces)
    found = words(text)
    for kind in KINDS:
        tokens = sharpened(spans_of(kind, text), text)
        for owners in aligned(np.array(found).reshape(-1, 2), tokens, "last"):
            assert len(owners) == 1


@pytest.mark.parametrize(
    "spans, values, classes, said",
    [
        ([(0, 9)], [0], ("a", "b"), "span 0 to 9 is not within its 7 characters"),
        ([(2, 2)], [0], ("a", "b"), "expected 0 <= start < end"),
        ([(3, 4)], [0], ("a", "b"), "covers blanks only"),
        ([(0, 3)], [0, 1], ("a", "b"), "2 values for 1 spans"),
        ([(0, 3)], [2], ("a", "b"), "class numbers from 2 to 2; expected -1 to 1"),
    ],
)
def test_what_does_not_fit_is_refused(spans, values, classes, said):
    with pytest.raises(InputError, match=said):
        label("the cat", spans, values, classes)


def test_unknown_pieces_and_lists_of_other_lengths_are_refused():
    with pytest.raises(InputError, match="piece='middle': expected one of last, first, all"):
        label("the", [(0, 3)], [0], piece="middle")
    with pytest.raises(InputError, match="1 documents, 0 lists of spans"):
        SpanLabel("it", "it", (), ("a",), (), ())
    with pytest.raises(InputError, match="document 0 is blank"):
        label(" ", [(0, 1)], [0])
