"""Thresholds of a rule by the mean depth they shall give."""

from __future__ import annotations

from typing import Any

import numpy as np

from abbie_lens.errors import InputError
from probes import exits


def at_depth(rule: dict[str, Any], values: np.ndarray, depth: float) -> float:
    """The threshold whose mean exit step over values [k, token] is closest to `depth`.

    rule: as `HaltingPolicy.describe`. Mean depth is monotone in the threshold, so it is found by bisection over the values
    that occur. Errors: InputError for a depth outside 0…r.
    """
    r = len(values) - 1
    if not 0 <= depth <= r:
        raise InputError(f"depth={depth!r}: expected 0 to r={r}.")
    values = values.reshape(len(values), -1)
    taken = np.unique(values[np.isfinite(values)]).astype(np.float64)
    if (
        "policies" in rule
    ):  # a combination counts its rules; at none it would stop whatever they say
        taken = taken[taken >= 1]
    if not taken.size:
        return float(rule["threshold"])
    beyond = np.nextafter(taken[-1].astype(np.float32), np.float32(np.inf)).astype(np.float64)
    candidates = np.append(taken, beyond)
    if rule["stops"] == "below":
        candidates = candidates[::-1]  # safest last: depth rises along the candidates
    low, high = 0, len(candidates) - 1
    if mean_depth(rule, values, candidates[high]) <= depth:
        return float(candidates[high])
    while high - low > 1:
        middle = (low + high) // 2
        if mean_depth(rule, values, candidates[middle]) <= depth:
            low = middle
        else:
            high = middle
    either = [float(candidates[low]), float(candidates[high])]
    return min(either, key=lambda t: abs(mean_depth(rule, values, t) - depth))


def mean_depth(rule: dict[str, Any], values: np.ndarray, threshold: float) -> float:
    """Mean exit step over values [k, ...]."""
    return exits.mean_or_nan(exit_steps(rule, values, threshold))


def exit_steps(rule: dict[str, Any], values: np.ndarray, threshold: float) -> np.ndarray:
    """[...] exit steps of a described rule on values [k, ...]; r where it never fires."""
    least = min(rule["min_iters"], len(values) - 1)
    return exits.exit_steps(values, threshold, rule["stops"], least, rule["max_iters"])[0]
