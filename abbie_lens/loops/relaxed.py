"""Relaxed recursive transformer: iterations share the Body's weights up to a low-rank difference of their own.

    h_{k+1} = B_k(h_k),   B_k the Body with W + B^{k,l} A^{k,l} in place of W in every linear map l;   z_k = h_k

Norms and biases are shared. There are adapters for `max_iters` iterations; after them the last ones are repeated, or
more are refused. Ranks up to the smaller side of a matrix make sense: there any untied stack of max_iters x N_b blocks is
one of these (`relaxing.relax` makes it from one).

Born at random, A and B are both drawn like the weights, so that both move from the first step (our choice; with B = 0 A
would wait for it). Source: arXiv 2410.20672, read in a summary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from abbie_lens.loops.base import Advance, LoopFamily, require, require_iterations

if TYPE_CHECKING:
    from abbie_lens.components.stack import Stack
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class Relaxed(LoopFamily):
    """The Body's output is the next state, and each iteration has adapters of its own."""

    family: ClassVar[str] = "relaxed"

    rank: int = 8
    max_iters: int = 2
    """Iterations with adapters of their own."""
    beyond: str = "repeat_last"
    """More iterations than that: `repeat_last` adapters, or `refuse`."""

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range, or a trained depth that is refused."""
        require(self.rank >= 1, "rank", self.rank, "an integer >= 1")
        require_iterations(cfg, self.max_iters, self.beyond)

    @property
    def max_depth(self) -> int | None:
        """As many iterations as have adapters, where more are refused."""
        return self.max_iters if self.beyond == "refuse" else None

    def sums_plainly(self, n_iters: int) -> bool:
        """Always: the Body's residual stream simply goes on."""
        return True

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`adapters`, by iteration and block, then by the names inside a block."""
        from abbie_lens.components.adapted import adapters
        from abbie_lens.components.block import Block

        with torch.device("meta"):
            block = Block(cfg)
        bodies = (
            nn.ModuleList(adapters(block, self.rank) for _ in range(cfg.n_body_blocks))
            for _ in range(self.max_iters)
        )
        return {"adapters": nn.ModuleList(bodies)}

    def body(self, model: HookedLoopedTransformer, k: int) -> Stack:
        """The Body with the adapters of iteration k."""
        from abbie_lens.components.adapted import adapted

        return adapted(model.body, model.loop.adapters[min(k, self.max_iters - 1)])

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = B_k(h_k)."""
        return Advance(self.body(model, state.k)(state.h, state))
