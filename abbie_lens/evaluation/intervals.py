"""Intervals of a score over the documents it was computed from.

Wilson's for shares of right answers (right near 0 and 1, where the normal interval leaves [0, 1]); the
percentile bootstrap over documents for everything else, with the task's own aggregation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np


def wilson(n_right: float, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's score interval of a share (Wilson 1927); (NaN, NaN) without documents."""
    if n == 0:
        return float("nan"), float("nan")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, scale = n_right / n, 1 + z * z / n
    middle = share + z * z / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # The ends are exact; rounding would put them beside 0 and 1.
    low = 0.0 if n_right == 0 else float((middle - half) / scale)
    return low, 1.0 if n_right == n else float((middle + half) / scale)


def quantiles(draws: np.ndarray, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap draws."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail])
    return float(low), float(high)


def bootstrap(
    items: Sequence[Any], aggregate: Callable[[list[Any]], float], n_draws: int, seed: int
) -> np.ndarray:
    """[n_draws] aggregates of documents drawn with replacement."""
    generator = np.random.default_rng(seed)
    draws = np.empty(n_draws)
    for i in range(n_draws):
        chosen = generator.integers(len(items), size=len(items))
        draws[i] = aggregate([items[j] for j in chosen])
    return draws


def bootstrap_means(values: np.ndarray, n_draws: int, seed: int) -> np.ndarray:
    """[n_draws] means of values [document] drawn with replacement."""
    generator = np.random.default_rng(seed)
    chosen = (generator.integers(len(values), size=len(values)) for _ in range(n_draws))
    return np.array([values[rows].mean() for rows in chosen])
