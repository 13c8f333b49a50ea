"""What contraction, ends of other runs, blocks and similarity say of the loop."""

from __future__ import annotations

import numpy as np

from probes.dynamics.basins import PathIndependence
from probes.dynamics.per_block import PerBlock
from probes.dynamics.similarity import Similarity
from probes.dynamics.spectrum import Spectrum
from probes.readings.base import STILL, Reading, median, number, percent

_NEUTRAL = 0.01
"""ρ within this of 1: a difference neither grows nor shrinks to speak of."""
SAME_PLACES, KEPT_PLACES = 0.999, 0.9
"""CKA of the last two states above which tokens keep their places; of the first and last, above which the loop left them."""
_TITLES = {"step": "ρ of the step", "direction": "ρ of the direction map"}


def spectrum(result: Spectrum) -> tuple[Reading, ...]:
    """ρ of each map at the last iteration that was computed, and the contraction along the path."""
    k = result.at[-1]
    found = []
    for of in result.radius:
        value = median(result.radius[of][k])
        beside = result.control and result.control.radius[of][k]
        found.append(Reading(_TITLES[of], value, median(beside), _radius(value, of)))
    value, control = median(result.contraction_direction[-1]), float("nan")
    if result.control is not None:
        control = median(result.control.contraction_direction[-1])
    says = "The last direction step over the one before: along the run's own path."
    return (*found, Reading("contraction c", value, control, says))


def _radius(value: float, of: str) -> str:
    what = "in direction" if of == "direction" else "in the state"
    if np.isnan(value):
        return "Undefined: the state has left the range of numbers."
    if value < 1 - _NEUTRAL:
        return f"Below 1: a small difference {what} shrinks in the long run to about {value:.2g} of itself an iteration, in the typical token."
    if value <= 1 + _NEUTRAL:
        return f"About 1: a small difference {what} stays. It rests, but nothing pulls it to this one point."
    if of == "step":
        return f"Above 1: a small difference grows in the long run by about ×{value:.3g} an iteration; see the direction map for a state that grows too."
    return f"Above 1: a small difference {what} grows in the long run, in the typical token."


def path_independence(result: PathIndependence) -> tuple[Reading, ...]:
    """Cosines between ends, how far a push may go, and how far different inputs end apart."""
    beside = result.control

    def one(name: str, title: str, says: str) -> Reading:
        control = None if beside is None else getattr(beside, name)
        return Reading(title, median(getattr(result, name)), median(control), says)

    noise, basin = median(result.from_noise), median(result.basin)
    apart = median(result.input_dependence)
    undefined = f"Undefined for {result.reason}" if result.reason else "Undefined."
    if not np.isnan(noise):
        same = "the same end" if noise > 0.99 else "another end"
        noise_says = f"Started from noise, the run comes to {same}."
        largest = f"Pushes of up to {number(basin)} lengths of the state are forgotten."
        basin_says = largest if basin > 0 else "Even the smallest push tried moves the end."
    else:
        noise_says = basin_says = undefined
    if np.isnan(apart):
        apart_says = f"Undefined for {result.reason_inputs}" if result.reason_inputs else undefined
    elif apart < 0.01:
        apart_says = (
            "Different inputs end in one point: independence of the start is then worth nothing."
        )
    else:
        apart_says = "Different inputs end apart: what is read at the end depends on the input."
    still = median(result.still)
    return (
        one("from_noise", "cos(end, end from noise)", noise_says),
        one("basin", "basin, in lengths", basin_says),
        one("input_dependence", "input dependence", apart_says),
        one("still", "last step of the run", _still(still)),
    )


def _still(still: float) -> str:
    if np.isnan(still):
        return "Undefined."
    if still < STILL:
        return "The run has come to rest, so its end is an end."
    return "The run still moves: what is called its end is only where it was stopped."


def per_block(result: PerBlock) -> tuple[Reading, ...]:
    """In how many tokens all blocks rest at one point, and how alike their limits are."""
    share, beside = result.share_same, result.control
    control = float("nan") if beside is None else beside.share_same
    if np.isnan(share):
        says = "There are no limits of two blocks to compare."
    elif share > 0.5:
        says = f"In {percent(share)} of tokens with limits all blocks end in one direction."
    else:
        says = f"In {percent(1 - share)} of tokens with limits the blocks end in directions of their own: a cycle."
    if median(result.limit_step) >= STILL:
        says = "The long run still moves, so these are not limits yet."
    least = median(result.least_cosine[result.valid])
    other = float("nan") if beside is None else median(beside.least_cosine[beside.valid])
    return (
        Reading("share with one limit", share, control, says),
        Reading("least cosine of limits", least, other, "1: all blocks end in one direction."),
    )


def similarity(result: Similarity) -> tuple[Reading, ...]:
    """CKA of the last two states, and of the first with the last."""
    beside = result.control
    pairs = {"last two states": (-2, -1), "first and last state": (0, -1)}
    found = []
    for title, at in pairs.items():
        value = float(result.cka[at])
        control = float("nan") if beside is None else float(beside.cka[at])
        found.append(Reading(f"CKA, {title}", value, control, _alike(value, title)))
    return tuple(found)


def _alike(value: float, which: str) -> str:
    if np.isnan(value):
        return "Undefined: fewer than four tokens have a usable state."
    if which.startswith("last"):
        still = "Near 1: one iteration hardly moves the tokens' places among each other."
        return (
            still
            if value > SAME_PLACES
            else "Below 1: tokens still change places among each other."
        )
    return (
        "The loop leaves the tokens' places among each other nearly as the Head made them."
        if value > KEPT_PLACES
        else "The loop has arranged the tokens anew, not only scaled them."
    )
