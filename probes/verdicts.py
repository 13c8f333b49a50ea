"""What a token's state does over the iterations: settles, orbits, drifts, diverges, or too small to say.

The verdict is about the *direction* of the state: AbbIE-D doubles the norm, so no other distance could
settle. It rests on five numbers per token, taken over the last half of the shown iterations; thresholds
are adjustable afterwards (`FixedPoint.judge`) because the numbers are kept.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abbie_lens.errors import InputError

DIVERGES = "diverges"
BELOW = "below resolution"
SETTLES = "settles"
ORBITS = "orbits"
DRIFTS = "drifts"
SHORT = "too short"
VERDICTS = (SETTLES, BELOW, ORBITS, DRIFTS, DIVERGES, SHORT)
"""In the order in which they are shown; padding has the empty string."""

LEAST_STEPS = 4
FLOOR = 8
"""Rounding in several operations adds up: a resting state jitters within this many resolutions."""


@dataclass(frozen=True)
class Thresholds:
    """Where one verdict ends and the next begins."""

    resolution: float
    """A direction step below this is rounding: unit roundoff of the run's dtype by default."""
    decay: float = 2.5
    """Settles: direction steps shrink faster than k^-decay. A constant push (AbbIE-C far out) turns the
    state like k^-2 at most; a contraction beats every power."""
    growth: float = 2.0
    """Diverges: the norm grows faster than k^growth while the direction does not settle."""
    closure: float = 0.5
    """Orbits: the direction comes back to within this share of how far it had gone."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not (isinstance(value, int | float) and value >= 0):
                raise InputError(f"{name}={value!r}: expected a number >= 0.")


@dataclass(frozen=True)
class Evidence:
    """The numbers behind a verdict, each [batch, pos]."""

    steps: np.ndarray
    """Trusted direction steps."""
    last: np.ndarray
    """The last of them."""
    largest: np.ndarray
    """The largest in the window."""
    most: np.ndarray
    """The largest of all."""
    decay: np.ndarray
    """p in direction step ∝ k^-p over the window."""
    growth: np.ndarray
    """g in ‖h_k‖ ∝ k^g over the window."""
    turn: np.ndarray
    """Mean step angle (cosine) over the window."""


def gather(direction: np.ndarray, norm: np.ndarray, angle: np.ndarray) -> Evidence:
    """Evidence from direction [r, ...], norm [r+1, ...] and angle [r, ...]; NaN marks what is not trusted.

    The window is the last half of each token's trusted steps.
    """
    defined = np.isfinite(direction)
    n = defined.sum(0)
    k = np.arange(1.0, len(direction) + 1).reshape(-1, *[1] * (direction.ndim - 1))
    window = defined & (k > n // 2)
    # A step of exactly 0 has no logarithm; the smallest float64 keeps it at the bottom of the fit.
    steps = np.log(np.maximum(direction, np.finfo(float).tiny))
    last = np.take_along_axis(direction, np.maximum(n - 1, 0)[None], 0)[0]
    return Evidence(
        steps=n,
        last=last,
        most=np.where(defined, direction, 0).max(0, initial=0),
        largest=np.where(window, direction, 0).max(0, initial=0),
        decay=-_slope(np.log(k), steps, window),
        growth=_slope(np.log(k), _log(norm[1:]), window & (norm[1:] > 0)),
        turn=_mean(angle, window & np.isfinite(angle)),
    )


def judge(
    evidence: Evidence,
    closure: np.ndarray,
    diverged: np.ndarray,
    valid: np.ndarray,
    thresholds: Thresholds,
) -> np.ndarray:
    """[batch, pos] verdict of every token; the first that applies, in this order."""
    e, t = evidence, thresholds
    at_floor = (e.largest <= FLOOR * t.resolution) & (e.turn < 0)
    cases = [
        (~valid, ""),
        (diverged, DIVERGES),
        (e.last < t.resolution, BELOW),
        (e.steps < LEAST_STEPS, SHORT),
        (e.decay >= t.decay, SETTLES),
        (at_floor, BELOW),
        (e.growth >= t.growth, DIVERGES),
        (closure <= t.closure, ORBITS),
    ]
    return np.select([c for c, _ in cases], [np.array(v) for _, v in cases], np.array(DRIFTS))


def course(verdict: np.ndarray, evidence: Evidence, thresholds: Thresholds) -> np.ndarray:
    """[batch, pos] the verdict, and where the norm grows or shrinks faster than k^±growth, that too.

    "grows, direction settled": the direction settles, or has never moved by more than rounding
    (h -> 2h). Where it moved and is now below the resolution, the name says so instead.
    """
    moved = evidence.most > FLOOR * thresholds.resolution
    states = (
        ((verdict == SETTLES) | ((verdict == BELOW) & ~moved), "direction settled"),
        ((verdict == BELOW) & moved, "direction below resolution"),
    )
    named = verdict.astype(object)
    norms = {
        "grows": evidence.growth >= thresholds.growth,
        "shrinks": evidence.growth <= -thresholds.growth,
    }
    for word, where in norms.items():
        for there, direction in states:
            named[where & there] = f"{word}, {direction}"
    return named.astype(str)


def shares(verdict: np.ndarray, valid: np.ndarray) -> dict[str, np.ndarray]:
    """[1, batch, pos] by verdict: 1 where it is the token's, 0 where not, NaN for padding; means are shares."""
    return {f"verdict {name}": np.where(valid, verdict == name, np.nan)[None] for name in VERDICTS}


def _slope(x: np.ndarray, y: np.ndarray, window: np.ndarray) -> np.ndarray:
    """Least-squares slope of y on x over the rows in `window`; NaN below three points."""
    x = np.broadcast_to(x, y.shape)
    dx = np.where(window, x - _mean(x, window), 0)
    dy = np.where(window, y - _mean(y, window), 0)
    spread = (dx**2).sum(0)
    enough = (window.sum(0) >= 3) & (spread > 0)
    return np.where(enough, (dx * dy).sum(0) / np.where(enough, spread, 1), np.nan)


def _mean(x: np.ndarray, window: np.ndarray) -> np.ndarray:
    n = window.sum(0)
    return np.where(n > 0, np.where(window, x, 0).sum(0) / np.maximum(n, 1), np.nan)


def _log(x: np.ndarray) -> np.ndarray:
    return np.log(np.where(x > 0, x, np.nan))
