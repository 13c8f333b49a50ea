"""Statistics over held-out windows, with the interval of windows drawn with replacement: (value, low, high)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from probes.reproduction.measures.nll import interval

Triple = tuple[float, float, float]
UNDEFINED: Triple = (float("nan"), float("nan"), float("nan"))
DRAWS = 1000


def mean(values: np.ndarray) -> Triple:
    """Mean of values [window, pos]."""
    by_window = values.mean(1)
    return drawn(lambda chosen: float(by_window[chosen].mean()), len(by_window))


def difference(a: np.ndarray, b: np.ndarray) -> Triple:
    """Mean of a - b, both [window, pos]."""
    return mean(a - b)


def between(by_depth: Sequence[np.ndarray] | np.ndarray, depth: float) -> np.ndarray:
    """Values [window, pos] at a mean depth between two whole ones of by_depth [k, ...], interpolated linearly."""
    below = min(int(depth), len(by_depth) - 2)
    share = depth - below
    return (1 - share) * by_depth[below] + share * by_depth[below + 1]


def rank_correlation(x: np.ndarray, y: np.ndarray) -> Triple:
    """Spearman's over tokens [window, pos]; NaN where x is the same everywhere."""
    if np.ptp(x) == 0:
        return UNDEFINED

    def correlation(chosen: np.ndarray) -> float:
        if np.ptp(x[chosen]) == 0:
            return float("nan")
        return float(np.corrcoef(rankdata(x[chosen].ravel()), rankdata(y[chosen].ravel()))[0, 1])

    return drawn(correlation, len(x), 200)


def group_difference(values: np.ndarray, group: np.ndarray) -> Triple:
    """Mean of values [window, pos] inside the group minus outside; NaN where either is empty."""
    if group.all() or not group.any():
        return UNDEFINED

    def apart(chosen: np.ndarray) -> float:
        inside, found = group[chosen], values[chosen]
        if inside.all() or not inside.any():
            return float("nan")
        return float(found[inside].mean() - found[~inside].mean())

    return drawn(apart, len(values))


def drawn(statistic: Callable[[np.ndarray], float], n: int, draws: int = DRAWS) -> Triple:
    """A statistic of window numbers, and its interval over windows drawn with replacement."""
    generator = np.random.default_rng(0)
    values = np.array([statistic(generator.integers(n, size=n)) for _ in range(draws)])
    values = values[np.isfinite(values)]
    if not len(values):
        return statistic(np.arange(n)), float("nan"), float("nan")
    low, high = interval(values)
    return statistic(np.arange(n)), float(low), float(high)
