"""Small tokenizers of the two common kinds, made here."""

from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from abbie_lens.corpus import encode

KINDS = ("bytes", "bytes, trimmed", "sentencepiece")


def _byte_level(trim: bool) -> Tokenizer:
    """BPE over bytes, as GPT-2 has it; `trim`: spans without the leading space, as RoBERTa has them."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.post_processor = processors.ByteLevel(trim_offsets=trim)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=270, initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    made.train_from_iterator(["the cat the cat the cat"], trainer)
    return made


def _sentencepiece() -> Tokenizer:
    """Unigram with a mark for spaces and bytes for unknown characters, as Llama has it."""
    pieces = ["▁the", "▁cat", "▁c", "▁", "na", "ve", "in", "ï", *"abcdefghijklmnopqrstuvwxyz"]
    vocabulary = [("<unk>", 0.0), *((piece, -1.0 - i) for i, piece in enumerate(pieces))]
    vocabulary += [(f"<0x{byte:02X}>", -60.0) for byte in range(256)]
    made = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    made.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    made.decoder = decoders.Metaspace()
    return made


@pytest.fixture(scope="session")
def spans_of() -> Callable:
    """`spans_of(kind, text)`: [pos, 2] characters of the text's tokens."""
    backends = {
        "bytes": _byte_level(False),
        "bytes, trimmed": _byte_level(True),
        "sentencepiece": _sentencepiece(),
    }
    fast = {
        kind: PreTrainedTokenizerFast(tokenizer_object=backend)
        for kind, backend in backends.items()
    }

    def spans(kind: str, text: str) -> np.ndarray:
        return np.concatenate([found for _, found in encode(text, fast[kind])])

    return spans
