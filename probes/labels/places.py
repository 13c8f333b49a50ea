"""Where a token stands: the number of its word in the sentence, inside or outside a quotation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from probes.labels.classes import TOKEN_CLASSES, token_class
from probes.labels.label import UNDEFINED

WORD_POSITIONS = ("1st", "2nd–3rd", "4th–6th", "7th–12th", "13th or later")
_POSITION_EDGES = (1, 3, 6, 12)
_SENTENCE_END = ".!?…"
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "st", "messrs", "prof", "rev", "capt", "col", "gen"})


def word_position(texts: Sequence[str]) -> np.ndarray:
    """[pos] bin of the word's number in its sentence, for tokens of words; else undefined.

    A sentence ends at . ! ? … (not after a title such as Mr.) and at a blank line.
    """
    starts, continues = (TOKEN_CLASSES.index(c) for c in ("word start", "word continuation"))
    values, count, word, ended, newlines = [], 0, "", False, 0
    for text, kind in zip(texts, token_class(texts).tolist(), strict=True):
        newlines += text[: len(text) - len(text.lstrip())].count("\n")
        if kind == starts:
            count = 1 if ended or newlines > 1 else count + 1
            word, ended = text.strip(), False
        elif kind == continues:
            word += text
        in_word = kind in (starts, continues) and count > 0
        values.append(int(np.searchsorted(_POSITION_EDGES, count)) if in_word else UNDEFINED)
        if any(c in _SENTENCE_END for c in text):
            ended = not (text.strip().startswith(".") and word.lower() in _TITLES)
        if text.strip():
            newlines = text[len(text.rstrip()) :].count("\n")
    return np.array(values, dtype=np.int64)


def quote_depth(texts: Sequence[str]) -> np.ndarray:
    """[pos] 1 inside double quotes after this token, 0 outside; a blank line closes what was left open.

    Single quotes are not counted: they cannot be told from apostrophes.
    """
    values, inside, newlines = [], False, 0
    for text in texts:
        for char in text:
            newlines = newlines + 1 if char == "\n" else 0
            if char in '"“”«»' or newlines > 1:
                inside = char in "“«" or (char == '"' and not inside)
        values.append(UNDEFINED if text in ("", "\0") else int(inside))
    return np.array(values, dtype=np.int64)
