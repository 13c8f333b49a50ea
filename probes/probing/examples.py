"""Which tokens of a text are probed: labelled, thinned, and on which side of the split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError
from probes import corpus
from probes.labels import Labelling
from probes.probing.split import Split, split, thin

MAX_TRAIN, MAX_TEST = 6000, 4000
"""Most tokens that a probe is fitted on, its penalty chosen on them included, and tested on."""


@dataclass(frozen=True)
class Examples:
    """Chosen tokens, window by window."""

    positions: list[np.ndarray]
    """For each window, the positions of its tokens."""
    labels: np.ndarray
    """[token] numbers into `classes`, or floats for a label without classes."""
    documents: np.ndarray
    """[token]"""
    types: np.ndarray
    """[token] token ids, the word types of the control task."""
    classes: tuple[str, ...]
    split: Split

    def counts(self) -> np.ndarray:
        """[class, 3] training, validation and test tokens; one class for numbers."""
        sides = (self.split.train, self.split.validation, self.split.test)
        if self.labels.dtype.kind == "f":
            return np.array([[len(side) for side in sides]])
        n = len(self.classes)
        return np.stack([np.bincount(self.labels[side], minlength=n) for side in sides], 1)


def examples(
    found: Sequence[corpus.Window], label: Labelling, seed: int, *, validation: bool = True
) -> Examples:
    """Tokens of classes that occur in two documents or more, a bounded number, split by document.

    Errors: InputError for fewer than two such classes, and where no split has all of them on both sides.
    """
    if label.classes:
        usable = corpus.usable_classes(found, label)
        there = [np.isin(w.labels, usable) for w in found]
        names = tuple(label.classes[c] for c in usable)
    else:
        usable, there, names = [], [np.isfinite(w.labels) for w in found], (label.name,)
    positions = [np.flatnonzero(mask) for mask in there]
    if not sum(map(len, positions)):
        raise InputError(f"label={label.name!r}: no token of these texts has it.")
    of = np.concatenate([np.full(len(p), i) for i, p in enumerate(positions)])
    flat = np.concatenate(positions)
    labels = np.concatenate([w.labels[p] for w, p in zip(found, positions, strict=True)])
    if label.classes:
        labels = np.searchsorted(usable, labels)
    documents = np.array([w.document for w in found])[of]
    whole = split(labels, documents, seed, validation=validation)
    share = len(whole.train) / (len(whole.train) + len(whole.validation))
    limits = (round(MAX_TRAIN * share), round(MAX_TRAIN * (1 - share)), MAX_TEST)
    sides = [
        thin(side, limit, seed + i)
        for i, (side, limit) in enumerate(
            zip((whole.train, whole.validation, whole.test), limits, strict=True)
        )
    ]
    keep = np.sort(np.concatenate(sides))
    train, held, test = (np.searchsorted(keep, side) for side in sides)
    of, flat = of[keep], flat[keep]
    types = np.array([found[w].ids[p] for w, p in zip(of.tolist(), flat.tolist(), strict=True)])
    return Examples(
        [flat[of == i] for i in range(len(found))],
        labels[keep],
        documents[keep],
        types,
        names,
        Split(train, held, test),
    )
