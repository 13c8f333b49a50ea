"""What attention over the iterations says: whether it spreads, sinks, stays near, and comes to rest."""

from __future__ import annotations

import numpy as np

from probes.dynamics.attention import Attention
from probes.dynamics.patterns import TITLES
from probes.readings.base import Reading, median, number, percent
from probes.trust import NEVER

STILL = 0.999
"""Overlap of two iterations' patterns above which they count as the same; docs/thresholds.md has what models reach."""

SPREAD, FOCUSED = 0.7, 0.3
"""Entropies, as shares of the most there can be, above which attention is called spread and below which focused."""
LOST = "Undefined at the end: the state has left the range of numbers."


def readings(result: Attention) -> tuple[Reading, ...]:
    """The four measures of the last iteration, medians over heads, and how they got there."""
    told = {
        "entropy": _entropy(result),
        "sink": _sink(result),
        "local": _local(result),
        "overlap": _overlap(result),
    }
    return tuple(
        Reading(TITLES[n], _at(result, n, -1), _at(result.control, n, -1), says)
        for n, says in told.items()
    )


def _entropy(result: Attention) -> str:
    value = _at(result, "entropy", -1)
    if np.isnan(value):
        return LOST if _lost(result) else "Undefined."
    how = "spread" if value > SPREAD else "focused" if value < FOCUSED else "selective"
    return f"0 is one key, 1 all alike: {how}, {_change(result, 'entropy')}."


def _sink(result: Attention) -> str:
    rate = float(result.sink_rate[-1])
    if np.isnan(rate):
        return LOST if _lost(result) else "Undefined."
    beside = float("nan") if result.control is None else float(result.control.sink_rate[-1])
    random = "" if np.isnan(beside) else f"; of those with random weights {percent(beside)}"
    return f"{percent(rate)} of heads put at least {result.sink_from:g} there, sink heads{random}."


def _local(result: Attention) -> str:
    if np.isnan(_at(result, "local", -1)):
        if _lost(result):
            return LOST
        return f"Undefined: no token sees more than the {result.window} keys that count as near."
    return f"Share of the mass on the last {result.window} keys, {_change(result, 'local')}."


def _overlap(result: Attention) -> str:
    value = _at(result, "overlap", -1)
    if np.isnan(value):
        return LOST if _lost(result) else "Undefined: there is no iteration before."
    if value > STILL:
        alike = ", as with random weights" if _at(result.control, "overlap", -1) > STILL else ""
        return (
            f"The patterns have stopped changing{alike}: each iteration looks where the last did."
        )
    return f"{percent(1 - value)} of the mass still moves to other keys in the last iteration."


def _lost(result: Attention) -> bool:
    return bool((result.diverged_at != NEVER).any())


def _change(result: Attention, name: str) -> str:
    first, last = _at(result, name, 0), _at(result, name, -1)
    if not np.isfinite([first, last]).all():
        return "no iteration to compare with"
    if abs(last - first) < 0.02:
        return f"as in the first iteration ({number(first)})"
    return f"{'up' if last > first else 'down'} from {number(first)} in the first iteration"


def _at(result: Attention | None, name: str, row: int) -> float:
    return float("nan") if result is None else median(result.measure(name)[row])
