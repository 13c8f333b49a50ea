"""Word-level tokenizers: a prompt is words and spaces, a token is a word, its label is itself."""

from __future__ import annotations

from collections.abc import Mapping

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from abbie_lens.files.tokenizer import END_OF_TEXT, fast_tokenizer


def word_tokenizer(vocabulary: Mapping[str, int]) -> PreTrainedTokenizerFast:
    """A fast tokenizer of these words."""
    words = Tokenizer(models.WordLevel(dict(vocabulary), unk_token=END_OF_TEXT))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return fast_tokenizer(words)
