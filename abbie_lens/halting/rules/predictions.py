"""Rules on predictions: how far p = softmax(read-out of z) still moves. They cost a read-out at every look.

Default thresholds of `entropy_difference`, `kl` and `argmax_stable` are those of Huginn (arXiv 2502.05171).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import kl_divergence
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, undefined
from abbie_lens.halting.rules.successive import SuccessiveRule

LOGITS = frozenset({"logits"})


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
class MinPKL(SuccessiveRule):
    """Stop when the tokens that sampling would keep hardly change: KL where improbable ones count alike."""

    name = "min_p_kl"
    title = "Min-p KL"
    formula = "KL(q_{k−1} ‖ q_k) < τ,  q ∝ p where p ≥ m max p, else 1/V"
    unit = "nats"
    needs = LOGITS
    threshold: float = 1e-3
    min_p: float = 0.1
    """m, share of the largest probability below which all tokens are alike."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p={self.min_p!r}: expected 0 to 1.")

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        return kl_divergence(self._kept(previous.log_probs), self._kept(current.log_probs))

    def _kept(self, log_probs: Tensor) -> Tensor:
        floor = math.log(self.min_p) if self.min_p > 0 else -math.inf
        kept = log_probs >= log_probs.amax(-1, keepdim=True) + floor
        # NaN is no improbable token.
        kept = kept | log_probs.isnan()
        return log_probs.where(kept, -math.log(log_probs.shape[-1])).log_softmax(-1)


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
            run = torch.where(same, previous.held.nan_to_num(0.0) + 1, 0.0)
        return run.masked_fill(current.argmax < 0, float("nan"))
