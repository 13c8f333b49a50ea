"""Arithmetic of early exit on arrays: first crossing, what it costs, and the baselines of equal depth.

Rows are iterations k = 0…r, columns are tokens. Every baseline is exact: no sampling, no seed.
"""

from __future__ import annotations

import numpy as np

from abbie_lens.halting import fires_at


def exit_steps(
    values: np.ndarray,
    threshold: float,
    stops: str,
    min_iters: int = 1,
    max_iters: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """First k in min_iters…max_iters at which a rule fires, and whether it ever does.

    values: [k, ...] a rule's value; NaN never fires. Returns (exit [...] int, fired [...] bool);
    what never fires exits at max_iters, r if None.
    """
    last = len(values) - 1 if max_iters is None else min(max_iters, len(values) - 1)
    fires = fires_at(values, threshold, stops)
    fires[:min_iters] = False
    fires[last + 1 :] = False
    fired = fires.any(0)
    return np.where(fired, fires.argmax(0), last), fired


def at_exit(metric: np.ndarray, exits: np.ndarray) -> np.ndarray:
    """metric [k, ...] read off at each token's own exit step [...]."""
    return np.take_along_axis(metric, exits[None], 0)[0]


def fixed_depth(metric: np.ndarray, mean_steps: float) -> float:
    """Mean of metric [k, token] when all tokens exit at the same depth.

    A depth between two whole ones is the mixture of both: interpolated linearly.
    """
    if metric.shape[1] == 0 or not np.isfinite(mean_steps):
        return float("nan")
    below = int(np.floor(mean_steps))
    above = min(below + 1, len(metric) - 1)
    share = mean_steps - below
    low, high = float(metric[below].mean()), float(metric[above].mean())
    # 0 * NaN must not leak in where the depth is a whole number.
    return low if share == 0 else (1 - share) * low + share * high


def oracle(nll: np.ndarray, n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    """Mean steps and mean NLL, `n` at most, of the best exits there are: argmin_k NLL_k + λ k of nll [k, token], over λ.

    No rule reaches below: at its mean depth none has a smaller mean NLL. Tokens with an undefined NLL are left out.
    """
    nll = nll[:, np.isfinite(nll).all(0)]
    if not nll.size:
        return np.empty(0), np.empty(0)
    k = np.arange(len(nll))[:, None]
    found = {}
    for price in np.append(np.geomspace(1e-4, max(np.ptp(nll), 1e-3) + 1, n - 1), 0.0):
        steps = (nll + price * k).argmin(0)
        found[float(steps.mean())] = float(at_exit(nll, steps).mean())
    depth = np.array(sorted(found))
    return depth, np.array([found[d] for d in depth])


def random_exit(metric: np.ndarray, exits: np.ndarray) -> tuple[float, float]:
    """Mean and standard deviation over all ways to deal the same exit steps to the tokens at random.

    metric: [k, token]; exits: [token]. The depth spent is exactly the rule's; only the choice of
    token is random. Source: Hoeffding 1951, moments of a permuted sum a(i, π(i)).
    """
    n = metric.shape[1]
    if n == 0:
        return float("nan"), float("nan")
    counts = np.bincount(exits, minlength=len(metric)).astype(float)
    used = counts > 0
    a, counts = metric[used], counts[used]
    by_token = counts @ a / n
    by_step = a.mean(1)
    mean = float(counts @ by_step / n)
    if n == 1:
        return mean, 0.0
    centred = a - by_token[None] - by_step[:, None] + mean
    variance = float(counts @ (centred**2).sum(1)) / (n - 1)
    return mean, float(np.sqrt(variance)) / n


def mean_or_nan(x: np.ndarray) -> float:
    """Mean; NaN of nothing, and NaN if anything in it is undefined."""
    return float(x.mean()) if x.size else float("nan")
