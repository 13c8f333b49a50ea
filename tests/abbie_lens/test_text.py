"""Text and tokens: everything a user may type comes back as itself."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from abbie_lens import errors


@pytest.fixture(scope="module")
def speaker(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=len(tiny_tokenizer))


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(
        lambda t: t.strip() and "<|endoftext|>" not in t
    )
)
def test_text_survives_the_round_trip(speaker, text):
    assert speaker.to_string(speaker.to_tokens(text, prepend_bos=False)) == text
    assert len(speaker.to_str_tokens(text)) == speaker.to_tokens(text).shape[1]


def test_pieces_of_a_character_show_their_bytes(speaker):
    assert speaker.to_str_tokens("🙂", prepend_bos=False) == [
        "<0xF0>",
        "<0x9F>",
        "<0x99>",
        "<0x82>",
    ]


def test_special_and_markup_tokens_appear_as_themselves(speaker):
    assert speaker.to_str_tokens("the")[0] == "<|endoftext|>"
    assert "".join(speaker.to_str_tokens("<b>&amp;</b>", prepend_bos=False)) == "<b>&amp;</b>"


def test_batches_are_right_padded_with_a_mask(speaker):
    tokens, mask = speaker.tokenize(["the cat", "the"])
    assert tokens.shape == mask.shape
    assert mask.sum(1).tolist() == [speaker.to_tokens(t).shape[1] for t in ("the cat", "the")]
    assert speaker.tokenize(["the", "the"])[1] is None


@pytest.mark.parametrize("text", ["", "   ", "\n\t", [], ["the", ""], "a\ud800b"])
def test_nothing_to_read_is_a_clear_error(speaker, text):
    with pytest.raises(errors.InputError):
        speaker(text)
