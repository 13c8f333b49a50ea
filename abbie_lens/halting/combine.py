"""Rules of rules: stop when any, or all, of several would. The value is how many of them would.

A member says what it says at this k alone: its condition and its own `min_iters` and `max_iters`, not that it held before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation


@dataclass(frozen=True)
class Combination(HaltingPolicy):
    """Base of `AnyOf` and `AllOf`. Errors: InputError without rules, or with one that is none."""

    unit = "rules"
    stops = "at_least"
    allowed: ClassVar[tuple[float, float]] = (1.0, float("inf"))

    policies: tuple[HaltingPolicy, ...] = ()
    threshold: float = 1
    min_iters: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "policies", tuple(self.policies))
        super().__post_init__()
        if not self.policies or not all(isinstance(p, HaltingPolicy) for p in self.policies):
            raise InputError(f"policies={self.policies!r}: expected one or more halting policies.")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        """What any of the rules reads."""
        return frozenset().union(*(policy.needs for policy in self.policies))

    def looks_at(self, k: int) -> bool:
        """Whether any of the rules does."""
        return super().looks_at(k) and any(policy.looks_at(k) for policy in self.policies)

    def _decide(self, current: Observation, previous: Decision | None) -> Decision:
        if previous is None:
            parts = tuple(policy.init(current) for policy in self.policies)
        else:
            pairs = zip(self.policies, previous.parts, strict=True)
            parts = tuple(policy.check(part, current) for policy, part in pairs)
        would = [
            policy._halted(current.k, part.fires, None)
            for policy, part in zip(self.policies, parts, strict=True)
        ]
        count = torch.stack(would).sum(0)
        fires = (count >= self.threshold) & self.looks_at(current.k)
        halted = self._halted(current.k, fires, previous)
        value = wide(count)
        return Decision(current.k, current, value, value, fires, halted, parts=parts)

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        """Not used: a combination decides from the decisions of its rules."""
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """As of any rule, with those it is made of under `policies`."""
        fixed = {key: getattr(self, key) for key in ("name", "title", "formula", "unit", "stops")}
        own = ("threshold", "min_iters", "max_iters", "check_every")
        settings = {key: getattr(self, key) for key in own}
        return {**fixed, **settings, "policies": [p.describe() for p in self.policies]}


@dataclass(frozen=True)
class AnyOf(Combination):
    """Stop when one of the rules would."""

    name = "any_of"
    title = "Any of several rules"
    formula = "rules that would stop ≥ 1"


@dataclass(frozen=True)
class AllOf(Combination):
    """Stop when all of the rules would at the same k."""

    name = "all_of"
    title = "All of several rules"
    formula = "rules that would stop ≥ their number"

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", len(tuple(self.policies)) or 1)
        super().__post_init__()
