"""The thresholds a slider offers for a halting rule: a 1–2–5 ladder, whole numbers of iterations, or steps of 5 %."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_STEPS = (1, 2, 5)


def ladder(rule: Mapping[str, Any], deepest: int) -> list[float]:
    """Thresholds for `rule` (as `HaltingPolicy.describe` tells it), its default among them.

    The same for every prompt and model, so that a threshold in a link means the same everywhere.
    """
    default = float(rule["threshold"])
    if rule["unit"] == "iterations":
        return sorted({float(k) for k in range(1, deepest + 1)} | {default})
    if rule["unit"] == "probability":
        return sorted({k / 20 for k in range(1, 20)} | {0.01, 0.99, 1.0, default})
    low, high = (-2, 5) if rule["unit"] == "state units" else (-7, 1)
    steps = {float(f"{step}e{power}") for power in range(low, high) for step in _STEPS}
    return sorted(steps | {float(f"1e{high}"), default})


def text(threshold: float) -> str:
    """A threshold as the slider shows it: no trailing zeros, small ones as 2e-05."""
    return f"{threshold:g}"
