"""Word-level tokenizers: a prompt is words and spaces, a token is a word, its label is itself."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from abbie_lens.training.tokenizer import END_OF_TEXT

__all__ = ["END_OF_TEXT", "word_tokenizer"]


def word_tokenizer(vocabulary: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """A fast tokenizer of these words; `<|endoftext|>` is bos, eos, padding, and any unknown word."""
    words = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=END_OF_TEXT))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )
