"""Classes of tokens: what the first visible character says, how it is capitalised."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

import numpy as np

from probes.labels.label import UNDEFINED, shifted

TOKEN_CLASSES = ("word start", "word continuation", "digit", "punctuation", "space", "newline")
CAPITALS = ("lower case", "capitalised", "all capitals")
_APOSTROPHES = "'’"


def token_class(texts: Sequence[str]) -> np.ndarray:
    """[pos] index into TOKEN_CLASSES by the token's first visible character."""
    classes, before = [], " "
    for text in texts:
        classes.append(_class_of(text, before))
        before = text[-1:] or before
    return np.array(classes, dtype=np.int64)


def _class_of(text: str, before: str) -> int:
    visible = text.lstrip()
    if not visible:
        return (
            UNDEFINED if not text else TOKEN_CLASSES.index("newline" if "\n" in text else "space")
        )
    inside_word = visible == text and before.isalpha()
    if visible[0].isalpha() or unicodedata.category(visible[0]).startswith("M"):
        joined = inside_word or (visible == text and before in _APOSTROPHES)
        return TOKEN_CLASSES.index("word continuation" if joined else "word start")
    if inside_word and visible[0] in _APOSTROPHES and visible[1:2].isalpha():
        return TOKEN_CLASSES.index("word continuation")
    if visible[0].isdigit():
        return TOKEN_CLASSES.index("digit")
    return UNDEFINED if visible[0] == "\0" else TOKEN_CLASSES.index("punctuation")


def next_word_start(texts: Sequence[str]) -> np.ndarray:
    """[pos] 1 if the next token starts a word, 0 if not."""
    following = shifted(token_class(texts), 1)
    starts = (following == TOKEN_CLASSES.index("word start")).astype(np.int64)
    return np.where(following == UNDEFINED, UNDEFINED, starts)


def capitalisation(texts: Sequence[str]) -> np.ndarray:
    """[pos] 0 lower case, 1 first letter upper case, 2 all capitals (two or more); else undefined."""
    values = []
    for text in texts:
        letters = [c for c in text if c.isalpha() and c.lower() != c.upper()]
        if not letters:
            values.append(UNDEFINED)
        elif len(letters) > 1 and all(c.isupper() for c in letters):
            values.append(2)
        else:
            values.append(int(letters[0].isupper()))
    return np.array(values, dtype=np.int64)
