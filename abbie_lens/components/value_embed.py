"""Value embeddings: a block's attention adds to its values an embedding of each token itself, gated per head.

    v <- v + 2 sigmoid(W_g x[:32]) E_v[token],   x the normed stream that attention reads

Source: arXiv 2604.12946.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.config import LoopedConfig
from abbie_lens.context import Context
from abbie_lens.errors import InputError
from abbie_lens.hooks.points import Site

GATE_WIDTH = 32
"""Channels of the stream that a gate sees, or all where there are fewer."""


class ValueEmbedding(nn.Module):
    """What one block adds to its values; `hook_value_gate` is the gate, [batch, pos, kv_head]."""

    def __init__(self, cfg: LoopedConfig) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(cfg.d_vocab, cfg.kv_heads * cfg.head_width))
        self.gate = nn.Linear(min(GATE_WIDTH, cfg.d_model), cfg.kv_heads, bias=False)
        self.hook_value_gate = Site()

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, kv_head, d_head]. Errors: InputError where no token ids are known."""
        if context.tokens is None:
            raise InputError("tokens: value embeddings need token ids, and here are none.")
        gate = self.hook_value_gate(2 * self.gate(x[..., : self.gate.in_features]).sigmoid())
        embedded = F.embedding(context.tokens, self.weight).unflatten(-1, (gate.shape[-1], -1))
        return gate[..., None] * embedded
