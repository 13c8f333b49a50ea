"""One probing task: labels, a split by document, fits on any features, and scores with an interval."""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

SCORES = ("accuracy", "low", "high")
N_BOOTSTRAP, CONFIDENCE = 1000, 0.95
MAX_FIT_ITERATIONS = 400


@dataclass(frozen=True)
class Fit:
    """One probe's test score."""

    score: np.ndarray
    """[3] accuracy and the ends of its interval; NaN where the features are not finite."""
    converged: bool


@dataclass(frozen=True)
class Task:
    """Which tokens a probe is fitted on and tested on, and what it shall say."""

    labels: np.ndarray
    """[token] class numbers."""
    documents: np.ndarray
    """[token] document of each token."""
    train: np.ndarray
    """Indices of the training tokens."""
    test: np.ndarray
    """Indices of the test tokens, of other documents."""
    seed: int

    def fit(self, x: np.ndarray, *, shuffle: bool = False) -> Fit:
        """Fit on features [token, width] of the training tokens and score on the test tokens.

        shuffle: permute the training labels, the control for what chance and memory alone achieve.
        """
        # scikit-learn takes seconds to import, and most of probes never needs it.
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        # float64: a doubling family's states are too large for float32 variances.
        x_train, x_test = x[self.train].astype(np.float64), x[self.test].astype(np.float64)
        if not (np.isfinite(x_train).all() and np.isfinite(x_test).all()):
            return Fit(np.full(3, np.nan), False)
        y = self.labels[self.train]
        if shuffle:
            y = np.random.default_rng(self.seed).permutation(y)
        regression = LogisticRegression(max_iter=MAX_FIT_ITERATIONS)
        probe = make_pipeline(StandardScaler(), regression)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            probe.fit(x_train, y)
        right = probe.predict(x_test) == self.labels[self.test]
        return Fit(self.score(right), bool(regression.n_iter_.max() < MAX_FIT_ITERATIONS))

    def majority(self) -> np.ndarray:
        """[3] score of always saying the most frequent training class."""
        values, counts = np.unique(self.labels[self.train], return_counts=True)
        return self.score(self.labels[self.test] == values[counts.argmax()])

    def score(self, right: np.ndarray) -> np.ndarray:
        """[3] share of `right` [test token], with a bootstrap interval over test documents."""
        documents = self.documents[self.test]
        _, number = np.unique(documents, return_inverse=True)
        sizes = np.bincount(number)
        hits = np.bincount(number, weights=right)
        if len(sizes) < 2:
            return np.array([hits.sum() / sizes.sum(), np.nan, np.nan])
        # The same draws for every fit, so that two scores differ by the probe alone.
        drawn = np.random.default_rng(self.seed).integers(
            len(sizes), size=(N_BOOTSTRAP, len(sizes))
        )
        means = hits[drawn].sum(1) / sizes[drawn].sum(1)
        low, high = np.quantile(means, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
        return np.array([hits.sum() / sizes.sum(), low, high])

    def counts(self, classes: list[int]) -> np.ndarray:
        """[class, 2] training and test tokens of each class."""
        sides = [self.labels[self.train], self.labels[self.test]]
        return np.array([[int((side == c).sum()) for side in sides] for c in classes])

    def n_documents(self) -> tuple[int, int]:
        """Training and test documents."""
        sides = [np.unique(self.documents[side]) for side in (self.train, self.test)]
        return len(sides[0]), len(sides[1])
