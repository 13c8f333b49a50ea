"""Scores by document: a score is a ratio of sums over documents, and its interval resamples documents."""

from __future__ import annotations

import numpy as np

N_BOOTSTRAP, CONFIDENCE = 1000, 0.95
ENDS = ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2)


class Scorer:
    """Means over test tokens with 95% bootstrap intervals over their documents.

    The draws depend on the documents and the seed alone, so two scores differ by their probes.
    """

    def __init__(self, documents: np.ndarray, seed: int = 0) -> None:
        """documents: [token] of the test tokens."""
        _, self.number = np.unique(documents, return_inverse=True)
        self.sizes = np.bincount(self.number).astype(float)
        n = len(self.sizes)
        rng = np.random.default_rng(seed)
        # How often each draw has each document, [draw, document].
        self.draws = rng.multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP).astype(float)

    def mean(self, values: np.ndarray) -> np.ndarray:
        """[..., 3] mean of values [..., token] and its interval; NaN interval with one document."""
        return self.ratio(values, np.ones(values.shape[-1]))

    def ratio(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """[..., 3] Σ above / Σ below over tokens, and its interval; NaN where undefined."""
        top, bottom = self._by_document(above), self._by_document(below)
        with np.errstate(invalid="ignore", divide="ignore"):
            value = top.sum(-1) / bottom.sum(-1)
            if len(self.sizes) < 2:
                nothing = np.full(value.shape, np.nan)
                return np.stack([value, nothing, nothing], -1)
            drawn = (top @ self.draws.T) / (bottom @ self.draws.T)
        low, high = np.quantile(drawn, ENDS, axis=-1)
        return np.stack([value, low, high], -1)

    def _by_document(self, values: np.ndarray) -> np.ndarray:
        """[..., document] sums of [..., token]."""
        flat = np.asarray(values, dtype=float).reshape(-1, len(self.number))
        sums = np.stack([np.bincount(self.number, weights=row, minlength=len(self.sizes)) for row in flat])
        return sums.reshape(*np.shape(values)[:-1], len(self.sizes))
