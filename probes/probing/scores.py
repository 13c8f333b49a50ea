"""Scores on test tokens and their intervals: a score is a ratio of sums, and documents are resampled."""

from __future__ import annotations

import numpy as np

from probes.probing.split import Split
from probes.probing.targets import Targets

N_BOOTSTRAP, CONFIDENCE = 1000, 0.95
SCORES = ("score", "low", "high")
_ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


def draws(documents: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """[token] number of each token's document, and how often each draw has each, [document, 1 + draw].

    The first "draw" has every document once. They depend on the documents and the seed alone, so that
    two scores differ by their probes.
    """
    _, number = np.unique(documents, return_inverse=True)
    n = int(number.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP)
    return number, np.concatenate([np.ones((1, n)), drawn]).T


def resampled(above: np.ndarray, below: np.ndarray, documents: np.ndarray, seed: int) -> np.ndarray:
    """[problem, 3] Σ above / Σ below and its interval over documents; what is NaN in `above` is left out.

    above: [problem, token]; below, documents: [token].
    """
    number, drawn = draws(documents, seed)
    there = np.isfinite(above)
    shares = (by_document(np.where(there, above, 0), number) @ drawn) / (
        np.maximum(by_document(np.where(there, below, 0), number) @ drawn, 1e-300)
    )
    return ends(shares, len(drawn) < 2)


def ends(values: np.ndarray, single: bool) -> np.ndarray:
    """[problem, 3] of values [problem, 1 + draw]: the first and the interval of the rest, NaN for one document."""
    low, high = np.quantile(values[:, 1:], _ENDS, axis=-1)
    if single:
        low, high = np.full((2, len(values)), np.nan)
    return np.stack([values[:, 0], low, high], -1)


def by_document(values: np.ndarray, number: np.ndarray) -> np.ndarray:
    """[problem, document] sums of values [problem, token]."""
    n = int(number.max()) + 1
    return np.stack([np.bincount(number, weights=row, minlength=n) for row in values])


class Scorer:
    """Accuracy (mean over labels if there are several), or R² against the training mean.

    Every score has a 95% percentile bootstrap over test documents.
    """

    def __init__(
        self, targets: Targets, split: Split, documents: np.ndarray, seed: int = 0
    ) -> None:
        self.kind, self.true = targets.kind, targets.values[split.test]
        seen = targets.values[split.train]
        self._number, self._draws = draws(documents[split.test], seed)
        if self.kind == "regression":
            self._mean, self._scale = seen.mean(0), seen.std(0)
            self._below = self._sums(self._misses(self._mean)[None])
        else:
            self._below = self._sums(np.ones((1, len(self.true))))

    def score(self, said: np.ndarray) -> np.ndarray:
        """[problem, 3] score and interval of what was said, [problem, test token, ...]."""
        return self._ends(self._values(said))

    def minus(self, said: np.ndarray, other: Scorer, answers: np.ndarray) -> np.ndarray:
        """[problem, 3] this score minus another task's of the same tokens, on the same draws of documents."""
        return self._ends(self._values(said) - other._values(answers))

    def majority(self, train: np.ndarray) -> np.ndarray:
        """[3] score of always saying what training labels [token, ...] say most often, or on average."""
        if self.kind == "regression":
            constant = self._mean
        elif self.kind == "multilabel":
            constant = (train.mean(0) > 0.5).astype(np.int64)
        else:
            constant = np.bincount(train).argmax()
        return self.score(np.broadcast_to(constant, self.true.shape)[None])[0]

    def _values(self, said: np.ndarray) -> np.ndarray:
        """[problem, 1 + draw]"""
        if self.kind == "regression":
            above = self._sums(self._misses(said))
        else:
            right = said == self.true
            above = self._sums(right.mean(-1) if self.kind == "multilabel" else right)
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (above @ self._draws) / (self._below @ self._draws)
        return 1 - share if self.kind == "regression" else share

    def _misses(self, said: np.ndarray) -> np.ndarray:
        """[..., token] squared error, each output in units of its training deviation."""
        return np.square((self.true - said) / self._scale).sum(-1)

    def _ends(self, values: np.ndarray) -> np.ndarray:
        return ends(values, len(self._draws) < 2)

    def _sums(self, values: np.ndarray) -> np.ndarray:
        return by_document(values, self._number)
