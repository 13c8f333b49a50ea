"""The tokenizer that travels with a model: tokenizer.json and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.layout import TOKENIZER

END_OF_TEXT = "<|endoftext|>"


def fast_tokenizer(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """A model's tokenizer around the Rust one; `<|endoftext|>` is bos, eos, padding, and anything unknown."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json. Errors: InputError for a slow tokenizer."""
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"tokenizer: {type(tokenizer).__name__} has no tokenizer.json; "
            "expected a fast tokenizer (transformers.PreTrainedTokenizerFast)."
        )
    tokenizer.save_pretrained(folder)


def read_tokenizer(folder: Path, d_vocab: int) -> PreTrainedTokenizerFast | None:
    """The folder's tokenizer, None if it has none.

    Errors: CheckpointError for a damaged one, or one whose ids the model's vocabulary lacks.
    """
    if not (folder / TOKENIZER).is_file():
        return None
    try:
        # this class, not AutoTokenizer: a folder must not choose which code reads it
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the Rust side raises bare Exception for a bad file
        raise CheckpointError(f"{folder / TOKENIZER}: damaged ({error}).") from error
    if len(tokenizer) > d_vocab:
        raise CheckpointError(
            f"{folder / TOKENIZER}: has {len(tokenizer)} tokens, the model's d_vocab is {d_vocab}."
        )
    return tokenizer
