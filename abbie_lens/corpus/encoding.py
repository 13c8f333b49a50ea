"""A document's tokens, in pieces, with the characters that each stands for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np
from transformers import PreTrainedTokenizerFast

_PIECE = 1 << 16
_PIECES_AT_ONCE = 64
# Between these two characters no pre-token of the GPT-2 pattern lies, so a cut changes no token.
_SAFE_CUT = re.compile(r"(?<=\S\n)(?=\S)")


def encode(
    document: str, tokenizer: PreTrainedTokenizerFast
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Token ids [n] and their spans [n, 2] in characters of `document`, piece by piece, without special tokens.

    A document that spells out a special token means its characters. A long document is encoded in pieces of about
    65,536 characters that begin at a line. Tokens that are parts of one character share its span.
    """
    backend = tokenizer.backend_tokenizer
    before, backend.encode_special_tokens = backend.encode_special_tokens, True
    try:
        remaining = _pieces(document)
        while pieces := list(islice(remaining, _PIECES_AT_ONCE)):
            texts = [document[start:end] for start, end in pieces]
            encodings = backend.encode_batch(texts, add_special_tokens=False)
            for (start, _), encoding in zip(pieces, encodings, strict=True):
                spans = np.array(encoding.offsets, dtype=np.int64).reshape(-1, 2)
                yield np.array(encoding.ids, dtype=np.int64), spans + start
    finally:
        backend.encode_special_tokens = before


def _pieces(document: str) -> Iterator[tuple[int, int]]:
    """Cut a long document at paragraph ends: encoding holds far more memory than its ids."""
    start = 0
    while len(document) - start > _PIECE:
        cut = _SAFE_CUT.search(document, start + _PIECE)
        if cut is None:
            break
        yield start, cut.start()
        start = cut.start()
    yield start, len(document)
