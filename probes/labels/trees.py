"""Dependency trees as structural probes read them: every word's depth, and the path between every two words.

Hewitt & Manning 2019 ask whether squared distances of projected states are these path lengths.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError
from probes.labels.conllu import Sentence, Treebank
from probes.labels.spans import aligned, sharpened


@dataclass(frozen=True, eq=False)
class Tree:
    """A sentence's words that a model reads, with what the tree says of them."""

    document: int
    sentence: int
    """Its number in the treebank."""
    words: np.ndarray
    """[word] number of the word in the sentence, from 0."""
    tokens: np.ndarray
    """[word] number of the word's token in the document."""
    depth: np.ndarray
    """[word] float64 steps from the root."""
    distance: np.ndarray
    """[word, word] float64 edges between two words."""


def trees(treebank: Treebank, document: int, spans: np.ndarray, piece: str = "last") -> list[Tree]:
    """The trees of one document over its tokens, [pos, 2] characters; those of two words or more.

    piece: which token stands for a word of several, "last" or "first". A word shares no token with another: where two
    stand in one, both are left out, as are words that were cut off, and those whose heads are not given up to the root.
    Errors: InputError for heads that go in a circle.
    """
    if piece not in ("last", "first"):
        raise InputError(f"piece={piece!r}: expected 'last' or 'first', one token a word.")
    spans, found = sharpened(spans, treebank.documents[document]), []
    for number, sentence in enumerate(treebank.sentences):
        if sentence.document != document:
            continue
        owners = aligned(np.array([(w.start, w.end) for w in sentence.words]), spans, piece)
        token = np.array([int(o[0]) if len(o) else -1 for o in owners])
        numbers, counts = np.unique(token, return_counts=True)
        depth = depths(sentence)
        own = (token >= 0) & np.isin(token, numbers[counts == 1])
        kept = np.flatnonzero(own & np.isfinite(depth))
        if len(kept) > 1:
            found.append(
                Tree(
                    document,
                    number,
                    kept,
                    token[kept],
                    depth[kept],
                    distances(sentence)[np.ix_(kept, kept)],
                )
            )
    return found


def depths(sentence: Sentence) -> np.ndarray:
    """[word] steps to the root, 0 for the root; NaN where a head on the way is not given. Errors: InputError for a circle."""
    return _known(sentence, _above(sentence).sum(1) - 1.0)


def distances(sentence: Sentence) -> np.ndarray:
    """[word, word] edges on the path between two words; several roots hang from one above them all."""
    above = _above(sentence).astype(np.float64)
    depth = _known(sentence, above.sum(1) - 1)
    # Two words share all that is above the place where their paths part.
    return depth[:, None] + depth - 2 * (above @ above.T - 1)


def _above(sentence: Sentence) -> np.ndarray:
    """[word, word] bool: the second is the first, or on its way to the root."""
    n = len(sentence.words)
    above = np.eye(n, dtype=bool)
    for i in range(n):
        at = i
        for _ in range(n):
            head = sentence.words[at].head
            if not head:
                break
            at = head - 1
            above[i, at] = True
        else:
            said = " ".join(word.form for word in sentence.words[:8])
            raise InputError(f"sentence {said!r}: the heads from word {i + 1} go in a circle.")
    return above


def _known(sentence: Sentence, depth: np.ndarray) -> np.ndarray:
    """Depth where every head up to the root is given."""
    rootless = np.array([word.head is None for word in sentence.words])
    return np.where((_above(sentence) & rootless).any(1), np.nan, depth)
