"""HaltingPolicy: when may a token stop iterating? A small object that watches successive read-outs.

    decision = policy.init(Observation(0, z_0, ...))
    decision = policy.check(decision, Observation(k, z_k, ...))    # decision.value, decision.halted

Nothing is kept in the policy itself, so one object serves many runs, live or replayed. Masks are
monotone: a token that halted stays halted. A value of NaN (nothing to compare with, or a diverged
state) never halts a token.

A rule looks at tokens one by one: the leading axes of what it sees are free, [batch, pos] in a replay and
[token] where halted tokens have left the run; `Decision.take` keeps the tokens that go on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
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
    """[..., d_model] read-out z_k, one row a token."""
    normed: Tensor | None = None
    """[..., d_model] N(z_k), after the final norm."""
    logits: Tensor | None = None
    """[..., d_vocab] the model's own read-out of z_k."""
    exit_cdf: Tensor | None = None
    """[...] F_k of the loop's learned gate (`LoopFamily.exit_cdf`); NaN for a loop without one."""

    @cached_property
    def log_probs(self) -> Tensor:
        """[..., d_vocab] float32 log-softmax of the logits. Errors: InputError without logits."""
        if self.logits is None:
            raise InputError("Observation.logits is None: this halting rule needs the logits.")
        return self.logits.float().log_softmax(-1)

    @cached_property
    def entropy(self) -> Tensor:
        """[...] entropy of the prediction in nats."""
        return entropy(self.log_probs)

    @cached_property
    def argmax(self) -> Tensor:
        """[...] most probable token; -1 where the distribution is NaN."""
        return torch.where(self.log_probs.isnan().any(-1), -1, self.log_probs.argmax(-1))

    def take(self, index: Tensor) -> Observation:
        """The observation of some tokens, by their number [n] along the one leading axis."""
        # What was already derived comes along: a log-softmax twice costs more than the rows of one.
        held = {name: _take(value, index) for name, value in vars(self).items()}
        taken = Observation(self.k, held["z"])
        vars(taken).update(held)
        return taken


@dataclass(frozen=True)
class Decision:
    """A rule's verdict after k iterations, and all it has to remember until the next."""

    k: int
    observation: Observation
    """The last one that was looked at."""
    value: Tensor
    """[...] float64 the rule's value; NaN where undefined, or at a k that was not looked at."""
    held: Tensor
    """[...] the value when it was last looked."""
    fires: Tensor
    """[...] whether the rule's own condition holds at this k."""
    halted: Tensor
    """[...] whether the token has halted by now, by the rule or by `max_iters`."""
    memory: Mapping[str, Tensor] = field(default_factory=dict)
    """What else the rule remembers, [..., any] by name."""
    parts: tuple[Decision, ...] = ()
    """The decisions of the rules that a combination is made of."""

    def take(self, index: Tensor) -> Decision:
        """The decision on some tokens, by their number [n] along the one leading axis."""
        return dataclasses.replace(
            self,
            observation=self.observation.take(index),
            value=self.value[index],
            held=self.held[index],
            fires=self.fires[index],
            halted=self.halted[index],
            memory={name: x[index] for name, x in self.memory.items()},
            parts=tuple(part.take(index) for part in self.parts),
        )


@dataclass(frozen=True)
class HaltingPolicy:
    """Base of all rules: a value per token and iteration, a threshold, and which side of it stops.

    A rule may stop a token at k if `min_iters <= k`; at `max_iters` every token stops. It looks at every
    `check_every`-th k, and compares with what it saw the time before; at others nothing is measured.
    Errors: InputError for a threshold that is no number, or outside `allowed`, or limits that contradict each other.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    formula: ClassVar[str]
    unit: ClassVar[str]
    stops: ClassVar[Literal["below", "at_least"]] = "below"
    needs: ClassVar[frozenset[str]] = frozenset()
    """Which optional fields of an Observation are read; logits cost a read-out every look."""
    allowed: ClassVar[tuple[float, float]] = (0.0, float("inf"))
    """Least and greatest threshold that makes sense."""

    threshold: float = 0.0
    min_iters: int = 1
    max_iters: int | None = None
    check_every: int = 1

    def __post_init__(self) -> None:
        if isinstance(self.threshold, bool) or self.threshold != self.threshold:
            raise InputError(f"threshold={self.threshold!r}: expected a number.")
        least, most = self.allowed
        if not least <= self.threshold <= most:
            raise InputError(
                f"threshold={self.threshold!r}: {self.name} takes {least:g} to {most:g}."
            )
        if self.check_every < 1:
            raise InputError(f"check_every={self.check_every}: expected at least 1.")
        if self.min_iters < 0:
            raise InputError(f"min_iters={self.min_iters}: expected 0 or more.")
        if self.max_iters is not None and self.max_iters < self.min_iters:
            raise InputError(
                f"max_iters={self.max_iters}: expected at least min_iters={self.min_iters}."
            )

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        """[...] the rule's value at `current.k`; NaN where it is undefined."""
        raise NotImplementedError

    def remember(self, current: Observation, previous: Decision | None) -> dict[str, Tensor]:
        """What a rule has to keep besides its value and the observation, [..., any] by name."""
        return {}

    def looks_at(self, k: int) -> bool:
        """Whether anything is measured after k iterations."""
        return k % self.check_every == 0

    def init(self, first: Observation) -> Decision:
        """The decision before any iteration (k = 0)."""
        return self._decide(first, None)

    def check(self, previous: Decision, current: Observation) -> Decision:
        """The decision after one more iteration. Errors: InputError if an iteration was left out."""
        if current.k != previous.k + 1:
            raise InputError(f"k={current.k}: expected {previous.k + 1}, one after the last check.")
        return self._decide(current, previous)

    def _decide(self, current: Observation, previous: Decision | None) -> Decision:
        if previous is not None and not self.looks_at(current.k):
            nothing = torch.zeros_like(previous.fires)
            return dataclasses.replace(
                previous,
                k=current.k,
                value=torch.full_like(previous.value, float("nan")),
                fires=nothing,
                halted=self._halted(current.k, nothing, previous),
            )
        value = self.measure(current, previous)
        fires = fires_at(value, self.threshold, self.stops)
        halted = self._halted(current.k, fires, previous)
        memory = self.remember(current, previous)
        return Decision(current.k, current, value, value, fires, halted, memory)

    def _halted(self, k: int, fires: Tensor, previous: Decision | None) -> Tensor:
        halted = fires & (k >= self.min_iters)
        if self.max_iters is not None and k >= self.max_iters:
            halted = torch.ones_like(halted)
        return halted if previous is None else halted | previous.halted

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
    """[...] NaN for tokens `like` [..., d_model], for a rule that has nothing to compare with yet."""
    dtype = torch.float32 if like.device.type == "mps" else torch.float64
    return torch.full(like.shape[:-1], float("nan"), dtype=dtype, device=like.device)


def _take(value: Any, index: Tensor) -> Any:
    return value[index] if isinstance(value, Tensor) else value
