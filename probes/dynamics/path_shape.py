"""The shape of a path through state space: how straight it is, and whether and when it comes back."""

from __future__ import annotations

import numpy as np

from probes.verdicts import LEAST_STEPS


def shapes(x: np.ndarray) -> dict[str, np.ndarray]:
    """Straightness, recurrence and period [batch, pos] of points [r+1, batch, pos, d], each over its last half."""
    out = {n: np.full(x.shape[1:3], np.nan) for n in ("straightness", "recurrence", "period")}
    for at in np.ndindex(x.shape[1:3]):
        path = x[:, *at]
        path = path[np.isfinite(path).all(-1)]
        path = path[len(path) // 2 :]
        if len(path) < 2:
            continue
        path = (path - path[0]) / (np.abs(path - path[0]).max() or 1.0)
        way = np.linalg.norm(np.diff(path, axis=0), axis=-1).sum()
        if way == 0:
            continue
        out["straightness"][at] = np.linalg.norm(path[-1]) / way
        if len(path) > LEAST_STEPS:
            apart = np.linalg.norm(path[:, None] - path[None], axis=-1)
            lags = np.arange(1, len(path) // 2 + 1)
            away = np.array([np.diagonal(apart, lag).mean() for lag in lags])
            # On a smooth path the next point is always near: only a distance that falls again is a return.
            again = np.where(np.diff(away, prepend=np.inf) < 0, away, np.inf)
            again[0] = np.inf
            best = int(again.argmin())
            if np.isfinite(again[best]):
                out["recurrence"][at] = again[best] / apart[np.triu_indices(len(path), 1)].mean()
                out["period"][at] = lags[best]
    return out
