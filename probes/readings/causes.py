"""What patching and steering found, in one sentence each; which one is decided by the result."""

from __future__ import annotations

import numpy as np

from probes.figures import labels
from probes.interventions.patching_result import Patching
from probes.interventions.recovery import Recovery
from probes.interventions.sites import STATE
from probes.interventions.steering import Steering

AGREES = 0.8
"""Correlation from which gradients are said to agree with exact patches."""


HALF = 0.5
"""Share of the difference from which an answer is said to be somewhere."""


def patched(result: Patching, pair: int = 0) -> str:
    """Where the clean answer begins and from when on the last token has it, or the best part; whether gradients agree."""
    of = "score" if result.score.size else "attribution"
    found = result.best(pair, of)
    if found is None:
        return "No score is defined: the two runs give the metric the same value."
    values = result.grid(of)[:, :, pair]
    if result.together or result.sites != (STATE,):
        said = _most(result, values, found, pair)
    else:
        said = _way(result, values[0, :, :, 0], pair)
    said += _beside(result, pair)
    if np.isfinite(result.pearson):
        verb = "agree" if result.pearson >= AGREES else "do not agree"
        said += f" Gradients {verb} with it: correlation {result.pearson:.2f}, of ranks {result.spearman:.2f}."
    return said


def _most(result: Patching, values: np.ndarray, found: tuple[int, int, int, int], pair: int) -> str:
    site, k, p, head = found
    value = 100 * float(values[site, k, p, head])
    part = result.sites[site] + (f", head {head}," if values.shape[-1] > 1 else "")
    where = "all positions" if result.together else _token(result, pair, p)
    return f"Most comes back by patching {part} of {where} at iteration {k}: {value:.0f}% of the difference."


def _way(result: Patching, values: np.ndarray, pair: int) -> str:
    """Scores [iteration, pos] of whole States: which token has the answer first, and when the last one has it."""
    last = int(np.flatnonzero(result.valid[pair])[-1])
    shown = np.flatnonzero(np.isfinite(values).any(axis=1))
    first = int(shown[0])
    p = int(np.nanargmax(values[first]))
    said = (
        f"At iteration {first} most of the answer is in the state of {_token(result, pair, p)}: "
        f"{100 * values[first, p]:.0f}% of the difference comes back by patching it."
    )
    there = [int(k) for k in shown if values[k, last] >= HALF]
    if not there:
        return said + " The last token never has half of it."
    return said + f" The last token has half of it from iteration {there[0]} on."


def _beside(result: Patching, pair: int) -> str:
    """What the control's values bring back in the cell that was spoken of."""
    at = result.origin(pair) if result.sites == (STATE,) and not result.together else None
    best = result.best(pair)
    if not result.control.size or best is None:
        return ""
    site, k, p, head = (0, *at, 0) if at is not None else best
    value = float(result.control[site, k, pair, p, head])
    return f" A third prompt's values bring back {100 * value:.0f}% there."


def _token(result: Patching, pair: int, p: int) -> str:
    return f"“{labels.visible(result.tokens[pair][p])}” (position {p})"


def steered(result: Steering) -> str:
    """Whether the vector does what random directions of the same length do not."""
    measure = len(result.measures) - 1 if len(result.measures) > 2 else 0
    low, high = np.moveaxis(result.interval()[measure], -1, 0)
    effect = result.effect[measure]
    beyond = (effect < low) | (effect > high)
    name = {"kl": "KL", "nll": "NLL"}.get(result.measures[measure], result.measures[measure])
    n = len(effect)
    if not beyond.any():
        return f"At no strength does the vector change the {name} by more or less than random directions of the same length do."
    at = int(np.abs(np.where(beyond, effect, 0.0)).argmax())
    return (
        f"At {int(beyond.sum())} of {n} strengths the vector changes the {name} by other amounts than random directions; at "
        f"α = {result.strengths[at]:.2g} by {effect[at]:.3g}, they by {low[at]:.3g} to {high[at]:.3g}."
    )


def recovered(result: Recovery) -> str:
    """Whether later iterations bring the direction back, and whether random weights do as well."""
    first, last = result.distance[0, -1, [0, -1], 1]
    said = f"After noise of {result.sizes[-1]:g} times the norm the direction is {first:.3g} away, at the end {last:.3g}."
    if result.control is not None:
        first, last = result.control.distance[0, -1, [0, -1], 1]
        said += f" With random weights: {first:.3g} and {last:.3g}."
    return said
