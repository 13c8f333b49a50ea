"""The four distances of one run, collected state by state: only the last two states are ever held."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probes import numerics
from probes.inputs import Inputs
from probes.limits import Limit
from probes.running import scaled_readout, states

NEVER = -1


@dataclass(frozen=True)
class Metric:
    """What a number is called and how it is computed."""

    title: str
    formula: str
    middle: float | None = None
    """Value that means "no difference", for signed quantities; None for distances."""


METRICS: dict[str, Metric] = {
    "raw": Metric("raw step", "‖hₖ₊₁ − hₖ‖"),
    "raw_largest": Metric("raw step, largest entry", "‖hₖ₊₁ − hₖ‖∞"),
    "relative": Metric("relative step", "‖hₖ₊₁ − hₖ‖ / ‖hₖ‖"),
    "direction": Metric("direction step", "‖u(hₖ₊₁) − u(hₖ)‖,  u(x) = x/‖x‖"),
    "one_minus_cos": Metric("direction step, 1 − cos", "1 − cos(hₖ₊₁, hₖ)"),
    "readout": Metric("read-out step", "‖N(zₖ₊₁) − N(zₖ)‖ / √d,  N the final norm"),
    "angle": Metric("step angle", "cos(hₖ₊₁ − hₖ, hₖ − hₖ₋₁)", middle=0.0),
    "second_order": Metric("second-order step", "‖dₖ₊₁ − dₖ‖,  dₖ₊₁ = hₖ₊₁ − hₖ"),
    "norm": Metric("norm", "‖hₖ‖"),
    "norm_ratio": Metric("norm ratio", "‖hₖ‖ / ‖hₖ₋₁‖", middle=1.0),
    "limit_direction": Metric("direction to the limit", "‖u(hₖ) − u(h*)‖"),
    "limit_readout": Metric("read-out to the limit", "‖N(zₖ) − N(z*)‖ / √d"),
}

NORMALISERS = {
    "state": "‖dₖ₊₁ − dₖ‖ / ‖hₖ‖,  dₖ₊₁ = hₖ₊₁ − hₖ",
    "steps": "‖dₖ₊₁ − dₖ‖ / (‖dₖ₊₁‖ + ‖dₖ‖),  dₖ₊₁ = hₖ₊₁ − hₖ",
    "none": METRICS["second_order"].formula,
}
"""Formula of the second-order step by what divides it; a straight step of the same length gives 0."""


def measure(
    model: Any, inputs: Inputs, limit: Limit, denominator: str, normaliser: str
) -> dict[str, np.ndarray]:
    """Run the model for r iterations; arrays by the field names of `FixedPoint`, plus `closure`.

    Steps are [r, batch, pos], levels [r+1, batch, pos], per-token numbers [batch, pos]. What touches a
    state that is not finite, or too large for the model's own norms, is NaN, as is padding.
    """
    r, shape = inputs.n_iters, inputs.valid.shape
    nan = lambda rows: np.full((rows, *shape), np.nan)  # noqa: E731
    steps = ("raw", "raw_largest", "relative", "direction", "readout", "angle", "second_order")
    out: dict[str, np.ndarray] = {name: nan(r) for name in steps}
    out |= {name: nan(r + 1) for name in ("norm", "norm_ratio", "limit_direction", "limit_readout")}
    out |= {name: np.full(shape, NEVER) for name in ("diverged_at", "overflow_at")}
    closing = _Closure(start=r // 2, shape=shape)
    largest = numerics.largest_norm(model.dtype)
    before: _Moment | None = None
    step_before: np.ndarray | None = None
    for state in states(model, inputs):
        k, now = state.k, _Moment(model, state)
        finite = np.isfinite(now.norm) & np.isfinite(now.readout).all(-1)
        _first(out["diverged_at"], ~finite & inputs.valid, k)
        _first(out["overflow_at"], (now.norm >= largest) & inputs.valid, k)
        trusted = inputs.valid & (out["diverged_at"] == NEVER) & (out["overflow_at"] == NEVER)
        now.hide(~trusted)
        # The norm itself stays true in float64 when the model's own has overflowed.
        out["norm"][k] = np.where(inputs.valid & finite, now.norm, np.nan)
        out["limit_direction"][k] = numerics.norm(now.unit - limit.unit)
        out["limit_readout"][k] = numerics.norm(now.readout - limit.readout)
        closing.add(k, now.unit)
        if before is not None:
            i = k - 1
            step = now.h - before.h
            out["raw"][i] = numerics.norm(step)
            out["raw_largest"][i] = np.abs(step).max(-1)
            base = out["norm"][i if denominator == "previous" else k]
            out["relative"][i] = numerics.ratio(out["raw"][i], base)
            out["direction"][i] = numerics.norm(now.unit - before.unit)
            out["readout"][i] = numerics.norm(now.readout - before.readout)
            out["norm_ratio"][k] = numerics.ratio(out["norm"][k], out["norm"][i])
            if step_before is not None:
                out["angle"][i] = numerics.cosine(step, step_before)
                base = {
                    "state": out["norm"][i],
                    "steps": out["raw"][i] + out["raw"][i - 1],
                    "none": np.ones(shape),
                }[normaliser]
                out["second_order"][i] = numerics.ratio(numerics.norm(step - step_before), base)
            step_before = step
        before = now
    out["closure"] = closing.value
    return out


class _Moment:
    """A state as the distances need it, in float64."""

    def __init__(self, model: Any, state: Any) -> None:
        self.h = numerics.host(state.h)
        self.norm = numerics.norm(self.h)
        self.unit = numerics.unit(self.h)
        self.readout = scaled_readout(model, state)

    def hide(self, where: np.ndarray) -> None:
        """Undefined at these tokens, and so is everything computed from them."""
        for values in (self.unit, self.readout, self.h):
            values[where] = np.nan


class _Closure:
    """How near the direction comes back to where it was at `start`, as a share of how far it had gone."""

    def __init__(self, start: int, shape: tuple[int, ...]) -> None:
        self.start, self.origin = start, None
        self.farthest = np.zeros(shape)
        self.value = np.full(shape, np.nan)

    def add(self, k: int, unit: np.ndarray) -> None:
        if k < self.start:
            return
        if self.origin is None:
            self.origin = unit.copy()
            return
        away = numerics.norm(unit - self.origin)
        self.farthest = np.fmax(self.farthest, away)
        if k >= self.start + 2:
            self.value = np.fmin(self.value, numerics.ratio(away, self.farthest))


def _first(at: np.ndarray, where: np.ndarray, k: int) -> None:
    at[where & (at == NEVER)] = k
