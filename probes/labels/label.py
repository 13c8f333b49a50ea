"""What a label is: for every token of a text one class, or one number, or nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from probes.figures.labels import BYTES, is_special

UNDEFINED = -1


class Labelling(Protocol):
    """What a probe may be asked to read from the states: the interface of every kind of label."""

    @property
    def name(self) -> str:
        """As it is called in tables, on the command line and on the page."""
        ...

    @property
    def description(self) -> str:
        """What it says of a token, in a few words."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none where the label is a number."""
        ...

    def of(self, document: int, texts: Sequence[str], spans: np.ndarray) -> np.ndarray:
        """[pos] int64 class numbers, -1 where undefined; or float64, NaN where undefined, if there are no classes.

        texts: the document's tokens as `to_str_tokens` writes them. spans: [pos, 2] their characters in the document.
        """
        ...


@dataclass(frozen=True)
class Label:
    """A property of each token that follows from the text; classes are known beforehand."""

    name: str
    description: str
    classes: tuple[str, ...]
    function: Callable[[Sequence[str]], np.ndarray]

    def __call__(self, str_tokens: Sequence[str]) -> np.ndarray:
        """[pos] class number of every token; -1 where undefined."""
        return self.function(characters(str_tokens))

    def of(self, document: int, texts: Sequence[str], spans: np.ndarray) -> np.ndarray:
        """[pos] class number of every token; the text alone decides."""
        return self(texts)


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


def shifted(labels: np.ndarray, by: int) -> np.ndarray:
    """[pos] the label `by` positions later (earlier if negative); undefined beyond the ends."""
    moved = np.full_like(labels, UNDEFINED)
    if by > 0:
        moved[:-by] = labels[by:]
    else:
        moved[-by:] = labels[:by]
    return moved
