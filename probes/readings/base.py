"""A number with what it means, and the small statistics that sentences are chosen by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

STEADY = 0.02
"""A factor per iteration within this of 1 counts as neither growing nor shrinking."""
STILL = 1e-3
"""A last step below this share of the state is called rest."""


@dataclass(frozen=True)
class Reading:
    """One number of the trained weights and the same of random ones; NaN where undefined."""

    name: str
    value: float
    control: float
    says: str
    """One sentence in plain text; it may hold names of a model, so it is escaped where it is shown."""


def number(value: float) -> str:
    """Three figures; "undefined" for NaN."""
    return "undefined" if np.isnan(value) else f"{value:.3g}"


def median(values: np.ndarray | None) -> float:
    """Median of what is defined; NaN if nothing is."""
    if values is None:
        return float("nan")
    defined = values[np.isfinite(values)]
    return float(np.median(defined)) if defined.size else float("nan")


def factor(values: np.ndarray) -> float:
    """Mean factor per row over the last half of a positive sequence; NaN where it is not defined there."""
    half = values[len(values) // 2 :]
    if len(half) < 2 or not (np.isfinite(half[[0, -1]]).all() and half[0] > 0 and half[-1] > 0):
        return float("nan")
    return float((half[-1] / half[0]) ** (1 / (len(half) - 1)))


def trend(by: float) -> str:
    """ "grows ×2 an iteration", "shrinks to 0.4 of itself an iteration", "stays as it is"."""
    if np.isnan(by):
        return "has no trend that can be told"
    if abs(by - 1) <= STEADY:
        return "hardly changes any more from iteration to iteration"
    return (
        f"grows ×{by:.3g} an iteration" if by > 1 else f"shrinks to {by:.2g} of itself an iteration"
    )


def percent(share: float) -> str:
    """ "43%"."""
    return f"{100 * share:.0f}%"
