"""What linear probes say of the states: a sentence for each view of the result."""

from __future__ import annotations

import numpy as np

from probes.probing.result import LinearProbes

_BASELINES = {
    "embedding": "the token embedding",
    "head_output": "h_0",
    "majority": "the most frequent answer",
    "untrained": "fresh weights",
    "shuffled": "shuffled labels",
}


def said(result: LinearProbes, site: str | None = None) -> str:
    """The last iteration of a site (the first if None) beside the best baseline.

    The last, not the best: an iteration chosen by its test score would flatter the states.
    """
    s, k = _place(result, site)
    score = result.trained[s, k]
    beside = {name: _baseline(result, name, s, k) for name in _BASELINES}
    # h_0 and fresh weights are the state itself where it is row 0, or the model untrained.
    defined = {
        n: v for n, v in beside.items() if np.isfinite(v[0]) and not (n == "head_output" and k == 0)
    }
    if not np.isfinite(score[0]) or not defined:
        return f"The states of {result.sites[s]} are not finite at k = {k}: nothing can be read from them."
    best = max(defined, key=lambda name: defined[name][0])
    where = f"at k = {k}" if result.rows[s] else f"at {result.sites[s]}"
    above = score[0] - defined[best][0]
    apart = score[1] > defined[best][2] or score[2] < defined[best][1]
    numbers = result.kind == "regression"
    value = _value(result, score[0])
    what = f"R² {value} on held-out documents" if numbers else f"{value} of held-out tokens right"
    first = f"{result.description[:1].upper()}{result.description[1:]} {where}: {what}, "
    name = "the training mean" if numbers and best == "majority" else _BASELINES[best]
    told = f"{name} {_value(result, defined[best][0])}"
    if not apart:
        return f"{first}within the intervals of the best baseline ({told})."
    return f"{first}{'above' if above > 0 else 'below'} the best baseline ({told})."


def selective(result: LinearProbes, site: str | None = None) -> str:
    """Whether the probe reads the label, or could read any label of the word."""
    s, k = _place(result, site)
    value, low, high = result.selectivity[s, k]
    if not np.isfinite(value):
        return "Selectivity is not defined here."
    says = (
        "which random labels by word type would not give"
        if low > 0
        else "no more than random labels by word type give"
    )
    if result.kind == "regression":
        told = f"{value:+.3f} [{low:+.3f}, {high:+.3f}] in R²"
    else:
        told = f"{_points(value)} [{_points(low)}, {_points(high)}]"
    return f"Selectivity at k = {k} is {told}: {says}."


def confused(result: LinearProbes, site: str | None = None, iteration: int | None = None) -> str:
    """The class that is told best, and the two that are mistaken most."""
    s, k = _place(result, site, iteration)
    counts = result.confusion[s, k].astype(np.float64)
    totals = counts.sum(1)
    if not totals.any():
        return "No test token at this iteration."
    with np.errstate(invalid="ignore", divide="ignore"):
        shares = counts / totals[:, None]
    right = np.diag(shares).copy()
    best = int(np.nanargmax(right))
    sentence = f"{result.classes[best]} is told best, {100 * right[best]:.0f}% of its tokens"
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    if not wrong.any():
        return f"{sentence}; nothing is mistaken."
    true, other = np.unravel_index(int(wrong.argmax()), wrong.shape)
    return (
        f"{sentence}; most often mistaken: {result.classes[int(true)]} for {result.classes[int(other)]},"
        f" {int(wrong.max())} of {int(totals[true])}."
    )


def _place(result: LinearProbes, site: str | None, iteration: int | None = None) -> tuple[int, int]:
    s = 0 if site is None else result.sites.index(site)
    last = max(0, int(result.rows[s]) - 1)
    return s, last if iteration is None else iteration


def _baseline(result: LinearProbes, name: str, s: int, k: int) -> np.ndarray:
    values = getattr(result, name)
    return values[s, k] if values.ndim == 3 else values


def _value(result: LinearProbes, value: float) -> str:
    return f"{value:.3f}" if result.kind == "regression" else f"{100 * value:.1f}%"


def _points(value: float) -> str:
    return f"{100 * value:+.1f} points"
