"""Labels of stretches of a text, and the tokens of any tokenizer that get them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError
from probes.labels.label import UNDEFINED

PIECES = ("last", "first", "all")


@dataclass(frozen=True, eq=False)
class SpanLabel:
    """A label of stretches of characters (words, phrases, answers), over whichever tokens a model cuts the text into.

    Errors: InputError for a blank document, a stretch outside its document or without a visible character, lengths that differ, a class
    number without a class, an unknown `piece`.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    """Names of the classes; none where values are numbers."""
    documents: tuple[str, ...]
    """The texts, none of them blank."""
    spans: tuple[np.ndarray, ...]
    """By document [stretch, 2] first character and the one after the last."""
    values: tuple[np.ndarray, ...]
    """By document [stretch] class numbers, -1 where undefined; numbers, NaN where undefined, if there are no classes."""
    piece: str = "last"
    """Which token of several gets the label: the last, where a causal model knows the whole word, the first, or all."""

    def __post_init__(self) -> None:
        if self.piece not in PIECES:
            raise InputError(f"piece={self.piece!r}: expected one of {', '.join(PIECES)}.")
        if not len(self.documents) == len(self.spans) == len(self.values):
            raise InputError(
                f"label={self.name!r}: {len(self.documents)} documents, {len(self.spans)} lists of spans and"
                f" {len(self.values)} of values; expected one of each a document."
            )
        blank = [i for i, text in enumerate(self.documents) if not text.strip()]
        if blank:
            raise InputError(f"label={self.name!r}: document {blank[0]} is blank; leave it out.")
        object.__setattr__(self, "spans", tuple(map(self._trimmed, range(len(self.documents)))))
        object.__setattr__(self, "values", tuple(map(self._checked, range(len(self.documents)))))

    def of(self, document: int, texts: Sequence[str], spans: np.ndarray) -> np.ndarray:
        """[pos] the value of each token; undefined where it has none, or two that differ.

        texts: not read, the characters decide. spans: [pos, 2].
        """
        owners = aligned(
            self.spans[document], sharpened(spans, self.documents[document]), self.piece
        )
        values, out = self.values[document], np.full(len(spans), self._nothing)
        clash = np.zeros(len(spans), bool)
        for tokens, value in zip(owners, values, strict=True):
            if value != self._nothing and value == value:
                held = out[tokens]
                free = (held == self._nothing) | (held != held)
                clash[tokens] |= ~free & (held != value)
                out[tokens] = np.where(free, value, held)
        return np.where(clash, self._nothing, out)

    @property
    def _nothing(self) -> int | float:
        return UNDEFINED if self.classes else np.nan

    def _trimmed(self, document: int) -> np.ndarray:
        """Spans without the blanks at their ends: what belongs to a word is its visible characters."""
        text, spans = (
            self.documents[document],
            np.asarray(self.spans[document], np.int64).reshape(-1, 2),
        )
        out = []
        for start, end in spans.tolist():
            if not 0 <= start < end <= len(text):
                raise InputError(
                    f"label={self.name!r}, document {document}: span {start} to {end} is not within its"
                    f" {len(text)} characters; expected 0 <= start < end <= {len(text)}."
                )
            held = text[start:end]
            start, end = (
                start + len(held) - len(held.lstrip()),
                end - len(held) + len(held.rstrip()),
            )
            if start >= end:
                raise InputError(
                    f"label={self.name!r}, document {document}: span {spans[len(out)].tolist()} covers blanks only."
                )
            out.append((start, end))
        return np.array(out, np.int64).reshape(-1, 2)

    def _checked(self, document: int) -> np.ndarray:
        values = np.asarray(self.values[document], np.int64 if self.classes else np.float64)
        if len(values) != len(self.spans[document]):
            raise InputError(
                f"label={self.name!r}, document {document}: {len(values)} values for"
                f" {len(self.spans[document])} spans."
            )
        if (
            self.classes
            and len(values)
            and not -1 <= values.min() <= values.max() < len(self.classes)
        ):
            raise InputError(
                f"label={self.name!r}, document {document}: class numbers from {values.min()} to {values.max()};"
                f" expected -1 to {len(self.classes) - 1}."
            )
        return values


def aligned(words: np.ndarray, tokens: np.ndarray, piece: str = "last") -> list[np.ndarray]:
    """For every word the numbers of its tokens: the last, the first, or all that share a character with it.

    words: [word, 2], tokens: [pos, 2] first character and the one after the last, tokens in the order of the text. A
    word that no token reads (the text was cut) has none; neither has it with `last` where the cut goes through it.
    """
    there = np.flatnonzero(tokens[:, 1] > tokens[:, 0])
    starts, ends = tokens[there, 0], tokens[there, 1]
    first = np.searchsorted(ends, words[:, 0], side="right")
    after = np.searchsorted(starts, words[:, 1], side="left")
    found = []
    for a, b, (begin, end) in zip(first.tolist(), after.tolist(), words.tolist(), strict=True):
        if a >= b:
            found.append(there[:0])
        elif piece == "all":
            found.append(there[a:b])
        elif piece == "last":
            found.append(there[b - 1 : b] if ends[b - 1] >= end else there[:0])
        else:
            found.append(there[a : a + 1] if starts[a] <= begin else there[:0])
    return found


def sharpened(spans: np.ndarray, text: str) -> np.ndarray:
    """Spans in which tokens that are single bytes have the character that the byte is of.

    Byte-fallback tokenizers give every byte of a run of unknown characters the run as its span.
    """
    out = np.array(spans, np.int64)
    same = np.flatnonzero((out[1:] != out[:-1]).any(1)) + 1
    for run in np.split(np.arange(len(out)), same):
        start, end = out[run[0]] if len(run) else (0, 0)
        if len(run) < 2 or end - start < 2:
            continue
        sizes = [len(char.encode("utf-8", "surrogatepass")) for char in text[start:end]]
        if sum(sizes) == len(run):
            begins = start + np.repeat(np.arange(end - start), sizes)
            out[run] = np.stack([begins, begins + 1], axis=1)
    return out
