"""Labels for probing that follow from the text alone: token class, capitalisation, word position, quotes.

Every label is a small object: `label(str_tokens)` gives one class number per token, -1 where the label
is undefined (special tokens, ends of the text, tokens it doesn't speak about). No data file is needed.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError, nearest
from probes.figures.labels import BYTES, is_special

UNDEFINED = -1
TOKEN_CLASSES = ("word start", "word continuation", "digit", "punctuation", "space", "newline")
WORD_POSITIONS = ("1st", "2nd–3rd", "4th–6th", "7th–12th", "13th or later")
_POSITION_EDGES = (1, 3, 6, 12)
_APOSTROPHES = "'’"
_SENTENCE_END = ".!?…"
_TITLES = frozenset({"mr", "mrs", "ms", "dr", "st", "messrs", "prof", "rev", "capt", "col", "gen"})


@dataclass(frozen=True)
class Label:
    """A property of each token that a probe may be asked to read from the states."""

    name: str
    description: str
    classes: tuple[str, ...]
    function: Callable[[Sequence[str]], np.ndarray]

    def __call__(self, str_tokens: Sequence[str]) -> np.ndarray:
        """[pos] class number of every token; -1 where undefined."""
        return self.function(characters(str_tokens))


def characters(str_tokens: Sequence[str]) -> list[str]:
    """What each token adds to the text: byte tokens add nothing until their character is complete.

    Special tokens read as NUL, which belongs to no class.
    """
    texts, pending = [], b""
    for token in str_tokens:
        if BYTES.fullmatch(token):
            pending += bytes(int(pair, 16) for pair in re.findall(r"<0x(..)>", token))
            try:
                texts.append(pending.decode())
                pending = b""
            except UnicodeDecodeError:
                texts.append("")
            continue
        pending = b""
        texts.append("\0" if is_special(token) else token)
    return texts


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


def shifted(labels: np.ndarray, by: int) -> np.ndarray:
    """[pos] the label `by` positions later (earlier if negative); undefined beyond the ends."""
    moved = np.full_like(labels, UNDEFINED)
    if by > 0:
        moved[:-by] = labels[by:]
    else:
        moved[-by:] = labels[:by]
    return moved


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


LABELS: dict[str, Label] = {
    label.name: label
    for label in (
        Label(
            "next_word_start",
            "whether the next token starts a new word",
            ("no", "yes"),
            next_word_start,
        ),
        Label("current_class", "class of the token itself", TOKEN_CLASSES, token_class),
        Label(
            "next_class",
            "class of the next token",
            TOKEN_CLASSES,
            lambda texts: shifted(token_class(texts), 1),
        ),
        Label(
            "previous_class",
            "class of the token before",
            TOKEN_CLASSES,
            lambda texts: shifted(token_class(texts), -1),
        ),
        Label(
            "word_position",
            "number of the word in its sentence",
            WORD_POSITIONS,
            word_position,
        ),
        Label(
            "capitalisation",
            "upper or lower case of the token",
            ("lower case", "capitalised", "all capitals"),
            capitalisation,
        ),
        Label(
            "quote_depth",
            "inside or outside double quotes after the token",
            ("outside", "inside"),
            quote_depth,
        ),
    )
}
"""Every label by name."""


def get_label(label: str | Label) -> Label:
    """The label called so, or the label itself. Errors: InputError for an unknown name."""
    if isinstance(label, Label):
        return label
    if label not in LABELS:
        known = ", ".join(LABELS)
        raise InputError(f"label={label!r}: expected one of {known}.{nearest(str(label), LABELS)}")
    return LABELS[label]
