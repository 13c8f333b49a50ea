"""Training, validation and test tokens: whole documents, never tokens, are divided.

A probe that saw other sentences of the same document is tested on its memory of names and topics.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError

TEST_SHARE, VALIDATION_SHARE = 0.3, 0.2
"""Of all documents, and of the rest."""
_ATTEMPTS = 50


@dataclass(frozen=True)
class Split:
    """Indices of tokens on each side."""

    train: np.ndarray
    """Scaler and probe are fitted on these."""
    validation: np.ndarray
    """The penalty is chosen on these; empty where there is one penalty only."""
    test: np.ndarray
    """Scores are of these."""

    def n_documents(self, documents: np.ndarray) -> tuple[int, int, int]:
        """Documents on each side."""
        sides = (self.train, self.validation, self.test)
        return tuple(len(np.unique(documents[side])) for side in sides)  # type: ignore[return-value]


def split(
    labels: np.ndarray, documents: np.ndarray, seed: int = 0, *, validation: bool = True
) -> Split:
    """A seeded split of whole documents, with every class in its training and its test part.

    labels: [token] class numbers, or anything else (then any split will do). documents: [token].
    Errors: InputError if 50 seeded draws find no such split, or for fewer than 3 documents (2 without
    validation).
    """
    _, number = np.unique(documents, return_inverse=True)
    n, least = int(number.max()) + 1, 3 if validation else 2
    if n < least:
        raise InputError(f"documents: {n} of them; a split by document needs at least {least}.")
    whole = labels.ndim == 1 and labels.dtype.kind in "biu"
    wanted = set(labels.tolist()) if whole else set()
    rng = np.random.default_rng(seed)
    n_test = min(max(1, round(TEST_SHARE * n)), n - least + 1)
    n_validation = max(1, round(VALIDATION_SHARE * (n - n_test))) if validation else 0
    for _ in range(_ATTEMPTS):
        order = rng.permutation(n)
        sides = [
            np.flatnonzero(np.isin(number, part))
            for part in np.split(order, [n_test, n_test + n_validation])
        ]
        test, held, train = sides
        if not whole or set(labels[train].tolist()) == wanted == set(labels[test].tolist()):
            return Split(train, held, test)
    raise InputError(
        f"texts: no split of {n} documents has every class in both its training and its test part;"
        " use more documents, or a label with fewer rare classes."
    )


def thin(indices: np.ndarray, at_most: int, seed: int) -> np.ndarray:
    """A seeded choice of `at_most` of the indices, in their order."""
    if len(indices) <= at_most:
        return indices
    return np.sort(np.random.default_rng(seed).choice(indices, at_most, replace=False))
