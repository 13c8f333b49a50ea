"""Byte-level BPE: any text round-trips, nothing is unknown."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from abbie_lens.errors import InputError
from abbie_lens.files.tokenizer import END_OF_TEXT, fast_tokenizer


def train_tokenizer(documents: Iterable[str], vocab_size: int = 4096) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose token 0 is `<|endoftext|>` (bos, eos and padding alike)."""
    if vocab_size < 257:
        raise InputError(f"vocab_size={vocab_size}: at least 257 (256 bytes and {END_OF_TEXT})")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(documents, trainer)
    return fast_tokenizer(tokenizer)


def load_tokenizer(name_or_path: str | Path) -> PreTrainedTokenizerFast:
    """Load a `tokenizer.json`, a folder that holds one, or a tokenizer of the hub."""
    path = Path(name_or_path)
    if path.is_dir() and (path / "tokenizer.json").is_file():
        path = path / "tokenizer.json"
    if path.is_file():
        tokenizer = Tokenizer.from_file(str(path))
        if tokenizer.token_to_id(END_OF_TEXT) is not None:
            return fast_tokenizer(tokenizer)
        return AutoTokenizer.from_pretrained(str(path.parent), use_fast=True)
    try:
        return AutoTokenizer.from_pretrained(str(name_or_path), use_fast=True)
    except (OSError, ValueError) as error:
        raise InputError(
            f"tokenizer={str(name_or_path)!r} is neither a tokenizer.json, a folder with one, "
            f"nor a tokenizer of the hub: {error}"
        ) from error


def tokenizer_hash(tokenizer: PreTrainedTokenizerFast) -> str:
    """SHA-256 of the tokenizer's own JSON: equal hashes give equal tokens."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()
