"""Stack: the blocks of one stage (Head, Body or Tail), applied in order."""

from __future__ import annotations

import operator
from collections.abc import Callable

from torch import Tensor, nn

from abbie_lens.components.block import Block, Join
from abbie_lens.config import LoopedConfig
from abbie_lens.hooks.points import Clock
from abbie_lens.state import State

Inject = Callable[[int, Tensor], tuple[Tensor, Tensor | None]]
"""(block, stream) -> the stream this block reads, and the stream its queries ask with (None: the same)."""


class Stack(nn.ModuleList):
    """Blocks `{stage}.0`, `{stage}.1`, … run one after the other."""

    def __init__(self, cfg: LoopedConfig, stage: str, n_blocks: int, clock: Clock) -> None:
        super().__init__(Block(cfg) for _ in range(n_blocks))
        self.stage, self.clock = stage, clock

    def forward(
        self,
        x: Tensor,
        state: State,
        inject: Inject | None = None,
        *,
        blocks: range | None = None,
        join: Join = operator.add,
    ) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model].

        `state.k` is the row of the sites inside, and with stage and block the slot of keys and values. `blocks` runs
        some of the blocks alone, `join` puts another residual in the place of plain addition.
        """
        self.clock.iteration = state.k
        for b in range(len(self)) if blocks is None else blocks:
            x, query_input = (x, None) if inject is None else inject(b, x)
            x = self[b](x, state.context, (self.stage, state.k, b), query_input, join)
        return x
