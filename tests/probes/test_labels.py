"""Every token appears as itself: nothing invisible, nothing read as HTML."""

import html
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from probes.figures import labels


@pytest.mark.parametrize(
    ("token", "label"),
    [
        ("<b>", "&lt;b&gt;"),
        ("&amp;", "&amp;amp;"),
        ("<|endoftext|>", "&lt;|endoftext|&gt;"),
        ("<script>", "&lt;script&gt;"),
        (" the", "·the"),
        ("\n", "↵"),
        ("\t", "⇥"),
        ("\r\n", "␍↵"),
        ("\x00", "␀"),
        ("\x1b[31m", "␛[31m"),
        ("\x7f", "␡"),
        ("\u00a0", "⍽"),
        ("\u202eevil", "⟨U+202E⟩evil"),
        ("\u200b", "⟨U+200B⟩"),
        ("\ud800", "⟨U+D800⟩"),
        ("🙂", "🙂"),
        ("👩\u200d💻", "👩\u200d💻"),
        ("\u0301", "◌\u0301"),
        ("שלום", "שלום"),
        ("", "⟨empty⟩"),
        ("$x^2$", "&#36;x^2&#36;"),
        ("<0xF0>", "&lt;0xF0&gt;"),
    ],
)
def test_known_labels(token, label):
    assert labels.token_label(token) == label


@given(st.text(max_size=40))
def test_a_label_is_escaped_and_visible(token):
    label = labels.token_label(token)
    assert not re.search(r"[<>$]|&(?!amp;|lt;|gt;|#36;)", label)
    plain = html.unescape(label)
    assert plain == labels.visible(token)
    hidden = {c for c in plain if unicodedata.category(c) in {"Cc", "Cs", "Zs", "Zl", "Zp"}}
    assert not hidden
    assert plain


def test_long_tokens_are_shortened_before_they_are_escaped():
    label = labels.token_label("&" * 100, max_chars=5)
    assert label == "&amp;" * 4 + "…"
    assert labels.token_label("a" * 100, max_chars=None) == "a" * 100


@given(st.lists(st.sampled_from(["a", " a", "a (2)", "<b>", "\n"]), max_size=12))
def test_labels_of_a_sequence_are_unique(tokens):
    unique = labels.token_labels(tokens)
    assert len(set(unique)) == len(tokens)
    for token, label in zip(tokens, unique, strict=True):
        assert label.startswith(labels.token_label(token))


def test_prompt_is_one_short_escaped_line():
    prompt = labels.prompt_label(["<|endoftext|>", "It", " was\n", "<b>", "\u202e", " &"])
    assert prompt == "“It was &lt;b&gt;⟨U+202E⟩ &amp;”"
    assert len(labels.prompt_label(["word "] * 100)) <= 62


def test_characters_cut_into_bytes_are_whole_in_the_prompt(tiny_tokenizer):
    text = "🙂 שלום <0xF0> 漢"
    tokens = [f"<0x{byte:02X}>" for byte in "🙂".encode()]
    assert labels.joined([*tokens, " a", "<0xE6><0xBC>", "<0xA2>"]) == "🙂 a漢"
    assert labels.joined(["a", "<0xF0>", "b"]) == "a\\xf0b"  # part of a character
    assert labels.joined(["<", "0", "xF0", ">"]) == "<0xF0>"  # typed like that
    from abbie_lens.text import TextMixin

    model = TextMixin()
    model.tokenizer = tiny_tokenizer
    assert labels.joined(model.to_str_tokens(text, prepend_bos=False)) == text


def test_wide_characters_count_twice_in_a_short_prompt():
    assert labels.prompt_label(["漢" * 20], 20) == f"“{'漢' * 9}…”"
    assert labels.prompt_label(["a" * 20], 20) == f"“{'a' * 20}”"
    assert labels.prompt_label(["a" * 21], 20) == f"“{'a' * 19}…”"
    assert labels.prompt_label(["<|endoftext|>"]) == "“”"


@pytest.mark.parametrize("token", ["<|endoftext|>", "<s>", "</s>", "<PAD>", "<|im_start|>"])
def test_special_tokens_are_recognised(token):
    assert labels.is_special(token)


@pytest.mark.parametrize("token", ["<b>", "the", "<", "|>", "<|>", "<0xF0>"])
def test_other_tokens_are_not(token):
    assert not labels.is_special(token)
