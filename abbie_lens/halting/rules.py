"""The rules of the literature. z = read-out state, N = final norm, p = softmax(readout), F = the loop's own gate.

Default thresholds of `entropy_difference`, `relative_distance`, `kl`, `argmax_stable` and `cosine` are
those of Huginn (arXiv 2502.05171); `direction_distance` is the same angle as `cosine`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import kl_divergence, norm, unit, wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, undefined

LOGITS, NORMED, GATE = frozenset({"logits"}), frozenset({"normed"}), frozenset({"exit_cdf"})
EPSILON = 1e-8
"""Keeps the residual of a state that is 0 from being undefined."""


class SuccessiveRule(HaltingPolicy):
    """A rule that compares an iteration with the one before it; undefined at k = 0."""

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if previous is None:
            return undefined(current.z)
        return wide(self.compare(previous.observation, current))

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        """[batch, pos] how far `current` is from `previous`."""
        raise NotImplementedError


@dataclass(frozen=True)
class EntropyDifference(SuccessiveRule):
    """Stop when the entropy of the prediction no longer changes."""

    name = "entropy_difference"
    title = "Entropy difference"
    formula = "|H(p_k) − H(p_{k−1})| < τ"
    unit = "nats"
    needs = LOGITS
    threshold: float = 1e-3

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return (current.entropy - previous.entropy).abs()


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
class KLDivergence(SuccessiveRule):
    """Stop when one more iteration hardly changes the predicted distribution."""

    name = "kl"
    title = "KL divergence"
    formula = "KL(p_{k−1} ‖ p_k) < τ"
    unit = "nats"
    needs = LOGITS
    threshold: float = 1e-3

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return kl_divergence(previous.log_probs, current.log_probs)


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
class ArgmaxStable(HaltingPolicy):
    """Stop when the top token has stayed the same τ times in a row."""

    name = "argmax_stable"
    title = "Argmax stable"
    formula = "iterations in a row with argmax p_k = argmax p_{k−1} ≥ τ"
    unit = "iterations"
    stops = "at_least"
    needs = LOGITS
    threshold: float = 5

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if previous is None:
            run = torch.zeros_like(undefined(current.z))
        else:
            same = current.argmax == previous.observation.argmax
            run = torch.where(same, previous.value.nan_to_num(0.0) + 1, 0.0)
        return run.masked_fill(current.argmax < 0, float("nan"))


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


@dataclass(frozen=True)
class LearnedGate(HaltingPolicy):
    """Stop when the loop's own gate has probably stopped: Ouro's exit at quantile q, PonderNet's at 1 − ε.

    Source: arXiv 2510.25741.
    """

    name = "learned_gate"
    title = "Learned gate"
    formula = "F_k ≥ τ,  F_k = Σ_{j≤k} p_j,  p = the gate's exit distribution"
    unit = "probability"
    stops = "at_least"
    needs = GATE
    threshold: float = 0.5
    min_iters: int = 0

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if current.exit_cdf is None:
            raise InputError("Observation.exit_cdf is None: learned_gate needs the loop's F_k.")
        return wide(current.exit_cdf)


RULES: dict[str, type[HaltingPolicy]] = {
    rule.name: rule
    for rule in (
        EntropyDifference,
        RawDistance,
        RelativeDistance,
        DirectionDistance,
        ReadoutDistance,
        KLDivergence,
        ArgmaxStable,
        Cosine,
        FixedPointResidual,
        FixedK,
        LearnedGate,
    )
}
"""Every rule of this module by name."""
OF_GATES = frozenset(name for name, rule in RULES.items() if "exit_cdf" in rule.needs)
"""Names of the rules that say something only of a loop with a learned gate."""
