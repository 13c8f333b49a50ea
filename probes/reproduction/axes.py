"""Axes of the charts: spans, scales, ticks and the numbers written at them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Place = Callable[[float], float]
"""From a value to its pixel."""


def span(values: list[float], log: bool, margin: float = 0.06) -> tuple[float, float]:
    """What an axis shows: all finite values, positive ones alone if it is logarithmic, with a margin."""
    known = np.array([v for v in values if math.isfinite(v) and (v > 0 or not log)])
    if not len(known):
        return (1.0, 10.0) if log else (0.0, 1.0)
    ends = np.log10([known.min(), known.max()]) if log else np.array([known.min(), known.max()])
    pad = margin * (ends[1] - ends[0]) or 0.5
    low, high = ends[0] - pad, ends[1] + pad
    return (float(10**low), float(10**high)) if log else (float(low), float(high))


def scale(span: tuple[float, float], to: tuple[float, float], log: bool) -> Place:
    """From a value in `span` to a pixel in `to`; NaN where it has no place."""
    f = (lambda v: math.log10(v) if v > 0 else math.nan) if log else (lambda v: v)
    low, high = f(span[0]), f(span[1])

    def place(value: float) -> float:
        if not math.isfinite(value):
            return math.nan
        return to[0] + (f(value) - low) / (high - low) * (to[1] - to[0])

    return place


def ticks(span: tuple[float, float], log: bool) -> list[float]:
    """Round values in `span`: about five, or powers of ten over more than a decade and a half."""
    if log and span[1] / span[0] > 30:
        first, last = math.ceil(math.log10(span[0])), math.floor(math.log10(span[1]))
        step = max(1, math.ceil((last - first + 1) / 6))
        return [10.0**e for e in range(first, last + 1, step)]
    raw = (span[1] - span[0]) / 5
    size = 10 ** math.floor(math.log10(raw))
    step = next(s * size for s in (1, 2, 5, 10) if s * size >= raw)
    first = math.ceil(span[0] / step - 1e-9)
    count = math.floor(span[1] / step + 1e-9) - first + 1
    return [round((first + i) * step, 12) for i in range(count)]


def number(value: float) -> str:
    """A tick in as few characters as say it."""
    if value == 0 or 1e-2 <= abs(value) < 1e4:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(_SUPERSCRIPT)
    return power if mantissa == "1" else f"{mantissa}·{power}"


_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
