"""Relaxed recursive transformer: iterations share the Body's weights up to a low-rank difference of their own.

    h_{k+1} = B_k(h_k),   B_k the Body with W + B^{k,l} A^{k,l} in place of W in every linear map l;   z_k = h_k

`carry` puts another rule in the place of that: `abbie-d` h_{k+1} = B_k(h_k) + h_k with z_{k+1} = B_k(h_k), or `steps`
h_{k+1} = h_k + s_k (B_k(h_k) - h_k), s_k [d_model] learned from `step_init` on. With `plain_first` iteration 0 has neither adapter
nor s, so that depth 1 stays the model that the Body was taken from (our choices, for conversion/retrofit).

Norms and biases are shared. There are adapters for `max_iters` iterations; after them the last ones are repeated, or
more are refused. Ranks up to the smaller side of a matrix make sense: there any untied stack of max_iters x N_b blocks is
one of these (`conversion.relax.relax` makes it from one).

Born at random, A and B are both drawn like the weights, so that both move from the first step (our choice; with B = 0 A
would wait for it). Source: arXiv 2410.20672, read in a summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.loops.abbie_d import doubling
from abbie_lens.loops.base import Advance, LoopFamily, require, require_iterations
from abbie_lens.loops.shared.reads import Reads, between

if TYPE_CHECKING:
    from abbie_lens.components.stack import Stack
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

CARRIES = ("repeat", "abbie-d", "steps")


@dataclass(frozen=True)
class Relaxed(LoopFamily):
    """The Body's output is the next state, and each iteration has adapters of its own."""

    family: ClassVar[str] = "relaxed"

    rank: int = 8
    max_iters: int = 2
    """Iterations with adapters of their own, a plain first one among them."""
    beyond: str = "repeat_last"
    """More iterations than that: `repeat_last` adapters, or `refuse`."""
    carry: str = "repeat"
    """How an iteration's output becomes the next state: `repeat`, `abbie-d`, or `steps`."""
    plain_first: bool = False
    """Whether iteration 0 applies the Body without adapters."""
    step_init: float = 0.0
    """Where s of `steps` begins: at 0 every depth begins as depth 1."""

    adapter_parts: ClassVar[tuple[str, ...]] = ("adapters", "steps")

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range, or a trained depth that is refused."""
        require(self.rank >= 1, "rank", self.rank, "an integer >= 1")
        require_iterations(cfg, self.max_iters, self.beyond)
        require(self.carry in CARRIES, "carry", self.carry, f"one of {CARRIES}")
        first = self.plain_first
        require(self.max_iters > first, "max_iters", self.max_iters, "at least 2, with plain_first")
        require(
            first or self.carry != "steps",
            "plain_first",
            first,
            "true with carry='steps', whose iteration 0 has no step",
        )

    @property
    def max_depth(self) -> int | None:
        """As many iterations as have adapters, where more are refused."""
        return self.max_iters if self.beyond == "refuse" else None

    def entry_weights(self, n_iters: int) -> tuple[float, ...] | None:
        """Those of the carry; learned steps weigh by channel from the first adapted iteration on."""
        if self.carry == "abbie-d":
            return between(n_iters)
        plain = self.carry == "repeat" or n_iters <= self.plain_first
        return (1.0,) * (n_iters + 1) if plain else None

    def read_back(self, model: HookedLoopedTransformer, n_iters: int, read: Tensor) -> Reads | None:
        """h_r = h_0 + sum_i s_i ⊙ F_i with learned steps, s = 1 for a plain first iteration."""
        if self.carry != "steps":
            return super().read_back(model, n_iters, read)
        own = [self._own(k) for k in range(n_iters)]
        steps = [1.0 if i is None else model.loop.steps[i].detach().to(read) for i in own]
        return Reads(read, tuple(read * step for step in steps))

    def growth(self, cfg: LoopedConfig) -> float:
        """That of AbbIE-D with its carry."""
        return doubling(cfg) if self.carry == "abbie-d" else 1.0

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`adapters`, by adapted iteration and block, then by the names inside a block; `steps` with that carry."""
        from abbie_lens.components.adapted import adapters
        from abbie_lens.components.block import Block

        with torch.device("meta"):
            block = Block(cfg)
        n = self.max_iters - self.plain_first
        bodies = (
            nn.ModuleList(adapters(block, self.rank) for _ in range(cfg.n_body_blocks))
            for _ in range(n)
        )
        parts: dict[str, nn.Module] = {"adapters": nn.ModuleList(bodies)}
        if self.carry == "steps":
            parts["steps"] = nn.ParameterList(
                torch.full((cfg.d_model,), float(self.step_init)) for _ in range(n)
            )
        return parts

    def body(self, model: HookedLoopedTransformer, k: int) -> Stack:
        """The Body with the adapters of iteration k."""
        from abbie_lens.components.adapted import adapted

        i = self._own(k)
        return model.body if i is None else adapted(model.body, model.loop.adapters[i])

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} and z_{k+1} from B_k(h_k), as `carry` says."""
        h = state.h
        out = self.body(model, state.k)(h, state)
        if self.carry == "abbie-d":
            return Advance(out + h, z=out)
        i = self._own(state.k)
        if self.carry == "repeat" or i is None:
            return Advance(out)
        return Advance(h + model.loop.steps[i] * (out - h))

    def _own(self, k: int) -> int | None:
        """Which of the learned adapters and steps are iteration k's; None for none."""
        i = min(k, self.max_iters - 1) - self.plain_first
        return None if i < 0 else i
