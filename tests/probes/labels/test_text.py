"""Text labels on sentences that a reader can check."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens.errors import InputError
from probes.labels.text import LABELS, get_label


def named(label, tokens):
    label = get_label(label)
    return ["-" if c < 0 else label.classes[c] for c in label(tokens)]


SENTENCE = ["The", " cat", "ty", " didn", "'t", " eat", " 3", "7", " mice", ".", "\n\n", " "]


def test_classes_of_tokens():
    assert named("current_class", SENTENCE) == [
        "word start",
        "word start",
        "word continuation",
        "word start",
        "word continuation",
        "word start",
        "digit",
        "digit",
        "word start",
        "punctuation",
        "newline",
        "space",
    ]
    assert named("current_class", ["don", "'", "t", "'", " x"])[2] == "word continuation"
    assert named("current_class", ["-", "hand"]) == ["punctuation", "word start"]
    assert named("current_class", ["well", "-", "known"])[2] == "word start"


def test_neighbours_are_the_same_labels_moved():
    now = named("current_class", SENTENCE)
    assert named("next_class", SENTENCE) == [*now[1:], "-"]
    assert named("previous_class", SENTENCE) == ["-", *now[:-1]]
    assert named("next_word_start", SENTENCE[:4]) == ["yes", "no", "yes", "-"]


def test_capitalisation_is_of_letters():
    tokens = ["The", " cat", " NATO", " I", "McD", "7", " «Oh"]
    assert named("capitalisation", tokens) == [
        "capitalised",
        "lower case",
        "all capitals",
        "capitalised",
        "capitalised",
        "-",
        "capitalised",
    ]


def test_words_are_counted_within_sentences():
    tokens = ["Mr", ".", " Dar", "cy", " saw", " it", ".", ' "', "No", ",", " he"]
    first, second, fourth = get_label("word_position").classes[:3]
    assert named("word_position", tokens) == [
        first, "-", second, second, second, fourth, "-", "-", first, "-", second,
    ]  # fmt: skip
    assert named("word_position", ["one", " two", "\n", "\n", "three"])[-1] == first
    assert named("word_position", ["one", " two", "\n", "three"])[-1] == second


def test_quotes_open_close_and_end_with_the_paragraph():
    tokens = ['"', "No", '"', " he", " said", ', "', "but", "\n\n", "Then", " “", "x", "”"]
    inside = [x == "inside" for x in named("quote_depth", tokens)]
    assert inside == [True, True, False, False, False, True, True, False, False, True, True, False]


def test_byte_tokens_add_their_character_when_it_is_complete():
    opening = ["<0xE2>", "<0x80><0x9C>", "Yes"]
    assert named("quote_depth", opening) == ["-", "inside", "inside"]
    assert named("current_class", ["<0xC3>", "<0xA9>", "t"]) == [
        "-",
        "word start",
        "word continuation",
    ]


@pytest.mark.parametrize("label", LABELS)
def test_special_tokens_have_no_class(label):
    labels = LABELS[label](["<|endoftext|>", "A", " b", "<|endoftext|>"])
    if label not in ("next_class", "next_word_start"):
        assert labels[0] == -1
    if label != "previous_class":
        assert labels[3] == -1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=4), st.sampled_from(["<0xF0>", "\n\n", ' "', "'s"]))))
def test_any_tokens_get_one_class_each(tokens):
    for label in LABELS.values():
        labels = label(tokens)
        assert labels.shape == (len(tokens),) and labels.dtype == np.int64
        assert ((labels >= -1) & (labels < len(label.classes))).all()


def test_unknown_labels_name_the_nearest():
    with pytest.raises(InputError, match="Nearest: quote_depth"):
        get_label("quotedepth")
