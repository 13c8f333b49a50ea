"""Stack: the blocks of one stage (Head, Body or Tail), applied in order."""

from __future__ import annotations

from torch import Tensor, nn

from abbie_lens.components.block import Block
from abbie_lens.config import LoopedConfig
from abbie_lens.state import State


class Stack(nn.ModuleList):
    """Blocks `{stage}.0`, `{stage}.1`, … run one after the other."""

    def __init__(self, cfg: LoopedConfig, stage: str, n_blocks: int) -> None:
        super().__init__(Block(cfg) for _ in range(n_blocks))
        self.stage = stage

    def forward(self, x: Tensor, state: State, query_input: Tensor | None = None) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]; keys and values are cached by (stage, iteration, block)."""
        for b, block in enumerate(self):
            x = block(x, state.context, (self.stage, state.k, b), query_input)
        return x
