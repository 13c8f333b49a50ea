"""What attention over the iterations says: whether it spreads, sinks, stays near, and comes to rest."""

from __future__ import annotations

import numpy as np

from probes.dynamics.attention import Attention
from probes.readings.base import Reading, median, number, percent

STILL = 0.99
"""Overlap of two iterations' patterns from which they count as the same."""


def readings(result: Attention) -> tuple[Reading, ...]:
    """The four measures of the last iteration, medians over heads, and how they got there."""
    told = {
        "entropy": _entropy(result),
        "sink": f"{percent(float(result.sink_rate[-1]))} of heads put at least {result.sink_from:g} on the first token: sink heads."
        if np.isfinite(result.sink_rate[-1])
        else "Undefined.",
        "local": _local(result),
        "overlap": _overlap(result),
    }
    titles = {
        "entropy": "entropy / log(t+1)",
        "sink": "mass on the first token",
        "local": "local mass",
        "overlap": "overlap with k − 1",
    }
    return tuple(
        Reading(titles[n], _at(result, n, -1), _at(result.control, n, -1), says)
        for n, says in told.items()
    )


def _entropy(result: Attention) -> str:
    value = _at(result, "entropy", -1)
    if np.isnan(value):
        return "Undefined."
    how = "spread" if value > 0.7 else "focused" if value < 0.3 else "selective"
    return f"0 is one key, 1 all alike: {how}, {_change(result, 'entropy')}."


def _local(result: Attention) -> str:
    if np.isnan(_at(result, "local", -1)):
        return f"Undefined: no token sees more than the {result.window} keys that count as near."
    return f"Share of the mass on the last {result.window} keys, {_change(result, 'local')}."


def _overlap(result: Attention) -> str:
    value = _at(result, "overlap", -1)
    if np.isnan(value):
        return "Undefined: there is no iteration before."
    if value > STILL:
        return "The patterns have stopped changing: each iteration looks where the last one did."
    return f"{percent(1 - value)} of the mass still moves to other keys in the last iteration."


def _change(result: Attention, name: str) -> str:
    first, last = _at(result, name, 0), _at(result, name, -1)
    if not np.isfinite([first, last]).all():
        return "no iteration to compare with"
    if abs(last - first) < 0.02:
        return f"as in the first iteration ({number(first)})"
    return f"{'up' if last > first else 'down'} from {number(first)} in the first iteration"


def _at(result: Attention | None, name: str, row: int) -> float:
    return float("nan") if result is None else median(result.measure(name)[row])
