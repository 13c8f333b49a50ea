"""What the distances say: whether the state converged, and which of them alone would have misled."""

from __future__ import annotations

import numpy as np

from probes import verdicts
from probes.fixed_point_result import FixedPoint
from probes.readings.base import STEADY, STILL, Reading, factor, number, trend
from probes.trust import NEVER

CALM = (verdicts.SETTLES, verdicts.BELOW)
ALIKE = 0.1
"""Shares of settled tokens that differ by less are the same for trained and random weights, as far as one draw tells:
two draws may differ by more (docs/thresholds.md), so a sentence never claims what training did."""
_ONE_DRAW = "that is the architecture, as far as one draw of them tells, and no sign of training"
_DOES = {
    verdicts.SETTLES: "settle",
    verdicts.BELOW: "move less than rounding",
    verdicts.ORBITS: "orbit",
    verdicts.DRIFTS: "drift on",
    verdicts.DIVERGES: "diverge",
    verdicts.SHORT: "cannot be told from so few iterations",
}


def headline(result: FixedPoint) -> tuple[str, str]:
    """The answer in a few words, and the sentence that gives its reasons."""
    counts = result.counts()
    total, calm = sum(counts.values()), _calm(counts)
    if not total:
        return "Nothing to judge", "No token has a verdict."
    short = counts.get(verdicts.SHORT, 0)
    if short == total:
        answer = "Too few iterations to tell"
    elif calm == total:
        answer = "It converged"
    elif not calm:
        answer = "It did not converge"
    else:
        answer = f"It converged on {calm} of {total} tokens"
    told = ", ".join(f"{n} of {total} tokens {_DOES[kind]}" for kind, n in counts.items())
    told += f".{_lost(result)}"
    beside = "" if short == total else _against(result.control, calm / total)
    return answer, f"In direction, {told} {beside}".strip()


def _lost(result: FixedPoint) -> str:
    """Where states leave the range of their numbers, in which case nothing of them can converge."""
    at = result.diverged_at[result.diverged_at != NEVER]
    if not at.size:
        return ""
    return f" The state leaves the range of {result.model.dtype} at iteration {at.min()}."


def readings(result: FixedPoint) -> tuple[Reading, ...]:
    """The four distances at the last iteration and the norm, medians over tokens."""
    sentences = {
        "direction": _direction(result),
        "raw": _raw(result),
        "relative": _relative(result),
        "readout": _readout(result),
        "norm": _norm(result),
    }
    return tuple(
        Reading(result.describe(name).title, _last(result, name), _last(result.control, name), says)
        for name, says in sentences.items()
    )


def _against(control: FixedPoint | None, share: float) -> str:
    if control is None or not (counts := control.counts()):
        return ""
    calm, total = _calm(counts), sum(counts.values())
    if counts.get(verdicts.SHORT, 0) == total:
        return ""
    if abs(share - calm / total) < ALIKE:
        if not calm:
            return f"Random weights don't settle either: {_ONE_DRAW}."
        return f"With random weights {calm} of {total} settle as well: {_ONE_DRAW}."
    more = "fewer" if calm / total < share else "more"
    return f"With random weights {more} do, {calm} of {total}, in this one draw of them."


def _direction(result: FixedPoint) -> str:
    evidence = verdicts.gather(result.direction, result.norm, result.angle)
    last, level = _last(result, "direction"), result.thresholds["resolution"]
    if np.isnan(last):
        return "Undefined at the end: the state has left the range of numbers."
    if last < level:
        return f"Below {number(level)}, what {result.model.dtype} can resolve: the direction is at rest."
    decay = evidence.decay[result.valid]
    decay = decay[np.isfinite(decay)]
    if not decay.size:
        return "The verdict rests on this one; the steps are too few for a rate."
    p, least = float(np.median(decay)), result.thresholds["decay"]
    if p <= 0:
        return "The verdict rests on this one: it does not shrink over the last half."
    word = "fast enough" if p >= least else "too slowly"
    return (
        f"The verdict rests on this one: it {trend(_factor(result, 'direction'))}, {word} to settle (like"
        f" k^−{p:.1f} over the last half; the line is k^−{least:g})."
    )


def _raw(result: FixedPoint) -> str:
    by, norm, turned = (_factor(result, name) for name in ("raw", "norm", "direction"))
    calm, shrinks = _mostly_calm(result), by < 1 - STEADY
    if np.isnan(by):
        if calm:
            return "Undefined or 0 at the end, where the direction is at rest."
        return "Undefined at the end: the state has left the range of numbers."
    if result.counts().get(verdicts.SHORT, 0) == sum(result.counts().values()):
        return f"It {trend(by)}."
    if calm and not shrinks:
        if norm > 1 + STEADY:
            return (
                f"Misleads alone: it {trend(by)}, as if the state ran away. Only the length grows"
                f" (×{norm:.3g}); the direction has settled."
            )
        return f"Misleads alone: it {trend(by)}, though the direction has settled."
    if calm:
        return f"It {trend(by)}: here it says the same as the direction."
    if shrinks and turned < 1 - STEADY and norm < 1 - STEADY:
        return f"Misleads alone: it {trend(by)} because the state shrinks (norm ×{norm:.2g})."
    if shrinks:
        return (
            f"Misleads alone: it {trend(by)}, which looks like convergence, but too slowly to end."
        )
    return f"It {trend(by)}: the state moves on, as the direction says."


def _relative(result: FixedPoint) -> str:
    last, norm = _last(result, "relative"), _factor(result, "norm")
    if np.isnan(last):
        return "Undefined at the end."
    told = f"Each iteration adds {number(last)} of the state's length"
    if _mostly_calm(result) and last > 0.1:
        return f"{told}, along the state itself: it cannot reach 0 while the norm goes on changing."
    falls = _factor(result, "relative") < 1 - STEADY
    if not _mostly_calm(result) and norm > 1 + STEADY and falls:
        return f"Misleads alone: it falls because the norm it divides by grows (×{norm:.3g})."
    return told + "."


def _readout(result: FixedPoint) -> str:
    last = _last(result, "readout")
    if np.isnan(last):
        return "Undefined at the end."
    if last < STILL:
        return "The last iteration moved what the Tail reads by less than 0.1% of its size, in the typical token."
    return f"The last iteration moved what the Tail reads by {100 * last:.2g}% of its size, in the typical token."


def _norm(result: FixedPoint) -> str:
    by = _factor(result, "norm")
    if np.isnan(by):
        return "Undefined at the end."
    if abs(by - 1) <= STEADY:
        return "The state's length hardly changes, so raw and relative step can be taken at their word."
    return f"The state's length {trend(by)}: a raw step means nothing unless read against it."


def _calm(counts: dict[str, int]) -> int:
    return sum(counts.get(kind, 0) for kind in CALM)


def _mostly_calm(result: FixedPoint) -> bool:
    counts = result.counts()
    return _calm(counts) * 2 > sum(counts.values())


def _last(result: FixedPoint | None, name: str) -> float:
    return float("nan") if result is None else float(result.quantiles(name)[1, -1])


def _factor(result: FixedPoint, name: str) -> float:
    return factor(result.quantiles(name)[1])
