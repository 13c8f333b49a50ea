"""Rules on a loop's own gate: F_k, the probability that a token has stopped by iteration k."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation

GATE = frozenset({"exit_cdf"})


@dataclass(frozen=True)
class LearnedGate(HaltingPolicy):
    """Stop when the loop's own gate has probably stopped.

    τ = q is Ouro's exit at a quantile, τ = 1 − ε PonderNet's; the masks of AdaPonderLM and of adaptive computation
    time are 0 or 1 at their halting, so any τ up to 1 is theirs. Source: arXiv 2510.25741.
    """

    name = "learned_gate"
    title = "Learned gate"
    formula = "F_k ≥ τ,  F_k = Σ_{j≤k} p_j,  p = the gate's exit distribution"
    unit = "probability"
    stops = "at_least"
    needs = GATE
    allowed = (0.0, 1.0)
    threshold: float = 0.5
    min_iters: int = 0

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        return wide(_cdf(self, current))


@dataclass(frozen=True)
class ACT(HaltingPolicy):
    """Stop when the gate's own values sum to 1 − ε, as in adaptive computation time. Source: arXiv 1603.08983.

    A gate that was trained as a hazard is read as one: λ_k is what it says of a token that is still in.
    """

    name = "act"
    title = "Sum of gates (ACT)"
    formula = "Σ_{j≤k} λ_j ≥ τ,  λ_j = (F_j − F_{j−1}) / (1 − F_{j−1})"
    unit = "sum of probabilities"
    stops = "at_least"
    needs = GATE
    threshold: float = 0.99
    min_iters: int = 0

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        now = wide(_cdf(self, current))
        if previous is None:
            return now
        before = wide(_cdf(self, previous.observation))
        # Where F is 1 nothing is left to stop.
        hazard = ((now - before) / (1 - before)).where(before < 1, torch.zeros_like(now))
        return previous.held + hazard.where(~now.isnan(), now)


def _cdf(rule: HaltingPolicy, seen: Observation) -> Tensor:
    if seen.exit_cdf is None:
        raise InputError(f"Observation.exit_cdf is None: {rule.name} needs the loop's F_k.")
    return seen.exit_cdf
