"""HaltingPolicy: when may a token stop iterating? A small object that watches successive read-outs.

    decision = policy.init(Observation(0, z_0, ...))
    decision = policy.check(decision, Observation(k, z_k, ...))    # decision.value, decision.halted

Nothing is kept in the policy itself, so one object serves many runs, live or replayed. Masks are
monotone: a token that halted stays halted. A value of NaN (nothing to compare with, or a diverged
state) never halts a token.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import entropy


@dataclass(frozen=True)
class Observation:
    """What a rule may look at after k iterations; fields that no rule needs may be None."""

    k: int
    z: Tensor
    """[batch, pos, d_model] read-out z_k."""
    normed: Tensor | None = None
    """[batch, pos, d_model] N(z_k), after the final norm."""
    logits: Tensor | None = None
    """[batch, pos, d_vocab] the model's own read-out of z_k."""
    exit_cdf: Tensor | None = None
    """[batch, pos] F_k of the loop's learned gate (`LoopFamily.exit_cdf`); NaN for a loop without one."""

    @cached_property
    def log_probs(self) -> Tensor:
        """[batch, pos, d_vocab] float32 log-softmax of the logits. Errors: InputError without logits."""
        if self.logits is None:
            raise InputError("Observation.logits is None: this halting rule needs the logits.")
        return self.logits.float().log_softmax(-1)

    @cached_property
    def entropy(self) -> Tensor:
        """[batch, pos] entropy of the prediction in nats."""
        return entropy(self.log_probs)

    @cached_property
    def argmax(self) -> Tensor:
        """[batch, pos] most probable token; -1 where the distribution is NaN."""
        return torch.where(self.log_probs.isnan().any(-1), -1, self.log_probs.argmax(-1))


@dataclass(frozen=True)
class Decision:
    """A rule's verdict after k iterations, and all it has to remember until the next."""

    observation: Observation
    value: Tensor
    """[batch, pos] float64 the rule's value; NaN where undefined."""
    fires: Tensor
    """[batch, pos] whether the rule's own condition holds at this k."""
    halted: Tensor
    """[batch, pos] whether the token has halted by now, by the rule or by `max_iters`."""


@dataclass(frozen=True)
class HaltingPolicy:
    """Base of all rules: a value per token and iteration, a threshold, and which side of it stops.

    A rule may stop a token at k if `min_iters <= k`; at `max_iters` every token stops.
    Errors: InputError for a threshold that is no number or limits that contradict each other.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    unit: ClassVar[str]
    stops: ClassVar[Literal["below", "at_least"]] = "below"
    needs: ClassVar[frozenset[str]] = frozenset()
    """Which optional fields of an Observation are read; logits cost a read-out every iteration."""

    threshold: float = 0.0
    min_iters: int = 1
    max_iters: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or self.threshold != self.threshold:
            raise InputError(f"threshold={self.threshold!r}: expected a number.")
        if self.min_iters < 0:
            raise InputError(f"min_iters={self.min_iters}: expected 0 or more.")
        if self.max_iters is not None and self.max_iters < self.min_iters:
            raise InputError(
                f"max_iters={self.max_iters}: expected at least min_iters={self.min_iters}."
            )

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        """[batch, pos] the rule's value at `current.k`; NaN where it is undefined."""
        raise NotImplementedError

    def init(self, first: Observation) -> Decision:
        """The decision before any iteration (k = 0)."""
        return self._decide(first, None)

    def check(self, previous: Decision, current: Observation) -> Decision:
        """The decision after one more iteration. Errors: InputError if an iteration was left out."""
        if current.k != previous.observation.k + 1:
            raise InputError(
                f"k={current.k}: expected {previous.observation.k + 1}, one after the last check."
            )
        return self._decide(current, previous)

    def _decide(self, current: Observation, previous: Decision | None) -> Decision:
        value = self.measure(current, previous)
        fires = fires_at(value, self.threshold, self.stops)
        halted = fires & (current.k >= self.min_iters)
        if self.max_iters is not None and current.k >= self.max_iters:
            halted = torch.ones_like(halted)
        return Decision(
            current, value, fires, halted if previous is None else halted | previous.halted
        )

    def replace(self, **changes: Any) -> HaltingPolicy:
        """A copy with the named settings changed."""
        return dataclasses.replace(self, **changes)

    def describe(self) -> dict[str, Any]:
        """Name, title, formula, unit, direction and settings, as plain JSON types."""
        fixed = {key: getattr(self, key) for key in ("name", "title", "formula", "unit", "stops")}
        return {**fixed, **dataclasses.asdict(self)}


def fires_at(value: Any, threshold: float, stops: str) -> Any:
    """Whether `value` (tensor or array) is on the stopping side of the threshold; NaN never is."""
    return value >= threshold if stops == "at_least" else value < threshold


def undefined(like: Tensor) -> Tensor:
    """[batch, pos] NaN, for a rule that has nothing to compare with yet."""
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    return torch.full(like.shape[:-1], float("nan"), dtype=dtype, device=like.device)
