"""Rules on states: how far the read-out state z still moves. N = final norm.

Default thresholds of `relative_distance` and `cosine` are those of Huginn (arXiv 2502.05171);
`direction_distance` is the same angle as `cosine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import norm, unit, wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, undefined
from abbie_lens.halting.rules.successive import SuccessiveRule

NORMED = frozenset({"normed"})
EPSILON = 1e-8
"""Keeps the residual of a state that is 0 from being undefined."""


@dataclass(frozen=True)
class RawDistance(SuccessiveRule):
    """Stop when the read-out moves less than a fixed length. A doubling family never does."""

    name = "raw_distance"
    title = "Raw distance"
    formula = "‖z_k − z_{k−1}‖ < τ"
    unit = "state units"
    threshold: float = 1.0

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return norm(wide(current.z) - wide(previous.z))


@dataclass(frozen=True)
class RelativeDistance(SuccessiveRule):
    """Stop when the read-out moves little compared with its norm."""

    name = "relative_distance"
    title = "Relative distance"
    formula = "‖z_k − z_{k−1}‖ / ‖z_k‖ < τ"
    unit = "ratio"
    threshold: float = 0.03

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return norm(wide(current.z) - wide(previous.z)) / norm(current.z)


@dataclass(frozen=True)
class DirectionDistance(SuccessiveRule):
    """Stop when the direction of the read-out no longer turns."""

    name = "direction_distance"
    title = "Direction distance"
    formula = "‖u(z_k) − u(z_{k−1})‖ < τ,  u(x) = x/‖x‖"
    unit = "ratio"
    threshold: float = 0.0447

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return norm(unit(current.z) - unit(previous.z))


@dataclass(frozen=True)
class ReadoutDistance(SuccessiveRule):
    """Stop when what the unembedding sees no longer moves."""

    name = "readout_distance"
    title = "Read-out distance"
    formula = "‖N(z_k) − N(z_{k−1})‖ < τ,  N = final norm"
    unit = "normed units"
    needs = NORMED
    threshold: float = 0.5

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        if previous.normed is None or current.normed is None:
            raise InputError("Observation.normed is None: readout_distance needs N(z).")
        return norm(wide(current.normed) - wide(previous.normed))


@dataclass(frozen=True)
class Cosine(SuccessiveRule):
    """Stop when successive read-outs point the same way."""

    name = "cosine"
    title = "Cosine"
    formula = "1 − cos(z_k, z_{k−1}) < τ"
    unit = "ratio"
    threshold: float = 1e-3

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        # Half the squared chord: 1 - cos itself loses every digit for nearly parallel vectors.
        return norm(unit(current.z) - unit(previous.z)).square() / 2


@dataclass(frozen=True)
class FixedPointResidual(SuccessiveRule):
    """Stop when no channel of the read-out moves much compared with the largest one. Source: arXiv 2606.18206."""

    name = "fixed_point_residual"
    title = "Fixed-point residual"
    formula = "‖z_k − z_{k−1}‖_∞ / (‖z_k‖_∞ + ε) < τ"
    unit = "ratio"
    threshold: float = 0.1

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        moved = (wide(current.z) - wide(previous.z)).abs().amax(-1)
        return moved / (wide(current.z).abs().amax(-1) + EPSILON)


@dataclass(frozen=True)
class SecondOrder(HaltingPolicy):
    """Stop when the read-out no longer changes course: its last two steps are alike. Undefined before k = 2."""

    name = "second_order"
    title = "Second-order difference"
    formula = "‖δ_k − δ_{k−1}‖ / (‖δ_k‖ + ‖δ_{k−1}‖) < τ,  δ_k = z_k − z_{k−1}"
    unit = "ratio"
    threshold: float = 0.5

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if previous is None or "step" not in previous.memory:
            return undefined(current.z)
        before, now = previous.memory["step"], self._step(current, previous)
        return norm(now - before) / (norm(now) + norm(before))

    def remember(self, current: Observation, previous: Decision | None) -> dict[str, Tensor]:
        """δ_k [..., d_model], from k = 1 on."""
        return {} if previous is None else {"step": self._step(current, previous)}

    def _step(self, current: Observation, previous: Decision) -> Tensor:
        return wide(current.z) - wide(previous.observation.z)


@dataclass(frozen=True)
class FixedK(HaltingPolicy):
    """Stop every token after the same number of iterations."""

    name = "fixed_k"
    title = "Fixed depth"
    formula = "k ≥ τ"
    unit = "iterations"
    stops = "at_least"
    threshold: float = 2
    min_iters: int = 0

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        return torch.full_like(undefined(current.z), float(current.k))
