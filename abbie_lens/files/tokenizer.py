"""The tokenizer that travels with a model: tokenizer.json and its settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerFast

from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.files.layout import TOKENIZER


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
