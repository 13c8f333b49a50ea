"""Which tokens of a text are the words of a treebank's sentences, so that structural probes can read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from abbie_lens.errors import InputError
from probes.corpus import LEAST_DOCUMENTS, Window
from probes.labels.conllu import Treebank
from probes.labels.label import UNDEFINED
from probes.labels.trees import depths, distances, trees
from probes.probing.sentences import Sentence

LONGEST = 60
"""Words of the longest sentence that is read: pairs of words grow with its square."""


@dataclass(frozen=True, eq=False)
class TreeWords:
    """A labelling of tokens by the word of the treebank that each stands for.

    piece: which token stands for a word of several, "last" or "first". Errors: InputError for another.
    """

    treebank: Treebank
    piece: str = "last"

    name = "structural"
    description = "place in the dependency tree"
    classes = ("word",)

    def __post_init__(self) -> None:
        if self.piece not in ("last", "first"):
            raise InputError(f"piece={self.piece!r}: expected 'last' or 'first', one token a word.")

    @property
    def documents(self) -> tuple[str, ...]:
        """The treebank's."""
        return self.treebank.documents

    @cached_property
    def _first(self) -> np.ndarray:
        """[sentence + 1] how many words the treebank has before each."""
        return np.cumsum([0, *(len(s.words) for s in self.treebank.sentences)])

    def of(self, document: int, texts: Sequence[str], spans: np.ndarray) -> np.ndarray:
        """[pos] number of the word in the treebank; -1 elsewhere, and in a sentence that the text's end cuts."""
        out = np.full(len(spans), UNDEFINED)
        end = spans[:, 1].max(initial=0)
        for tree in trees(self.treebank, document, spans, self.piece):
            if self.treebank.sentences[tree.sentence].words[-1].end <= end:
                out[tree.tokens] = self._first[tree.sentence] + tree.words
        return out

    def sentences(self, found: Sequence[Window]) -> TreeSentences:
        """What there is to read in labelled windows. Errors: InputError for fewer than 4 documents with a sentence."""
        number = [
            np.searchsorted(self._first, np.asarray(w.labels), side="right") - 1 for w in found
        ]
        # the rest of a sentence may stand in the next window, where nothing before it is seen
        each = [np.unique(n[w.labels >= 0]) for n, w in zip(number, found, strict=True)]
        names, seen = np.unique(np.concatenate([*each, np.zeros(0, int)]), return_counts=True)
        lengths = np.diff(self._first)[names]
        whole = (seen == 1) & (lengths <= LONGEST)
        positions, made, at = [], [], 0
        for n, window in zip(number, found, strict=True):
            there = np.flatnonzero((window.labels >= 0) & np.isin(n, names[whole]))
            for one in np.unique(n[there]).tolist():
                which = np.flatnonzero(n[there] == one)
                if len(which) < 2:
                    continue
                words = np.asarray(window.labels)[there[which]] - self._first[one]
                tree = self.treebank.sentences[one]
                made.append(
                    Sentence(
                        window.document,
                        at + which,
                        depths(tree)[words],
                        distances(tree)[np.ix_(words, words)],
                    )
                )
            positions.append(there)
            at += len(there)
        n_documents = len({s.document for s in made})
        if n_documents < LEAST_DOCUMENTS:
            raise InputError(
                f"treebank: {n_documents} document(s) with a whole sentence of 2 to {LONGEST} words; a split"
                f" by document needs at least {LEAST_DOCUMENTS}."
            )
        return TreeSentences(
            positions,
            tuple(made),
            int(((seen > 1) & (lengths <= LONGEST)).sum()),
            int((lengths > LONGEST).sum()),
        )


@dataclass(frozen=True, eq=False)
class TreeSentences:
    """Whole sentences, and where their words stand."""

    positions: list[np.ndarray]
    """For each window, the positions of the words."""
    sentences: tuple[Sentence, ...]
    """Their rows number the words of all windows, one after the other."""
    cut: int
    """Sentences left out because they stand in two windows."""
    too_long: int
    """Sentences left out because they have more than `LONGEST` words."""
