"""Token embedding, learned positions, and the (tied or own) unembedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.hooks.points import Site


class Embed(nn.Module):
    """Token ids [batch, pos] -> [batch, pos, d_model]."""

    def __init__(self, d_vocab: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(d_vocab, d_model))
        self.hook_out = Site()

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hook_out(F.embedding(tokens, self.weight))


class PosEmbed(nn.Module):
    """Learned absolute positions [batch, pos] -> [batch, pos, d_model]."""

    def __init__(self, n_ctx: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_ctx, d_model))
        self.hook_out = Site()

    def forward(self, positions: Tensor) -> Tensor:
        return self.hook_out(F.embedding(positions, self.weight))


class Unembed(nn.Module):
    """Logits x W_U, [..., d_model] -> [..., d_vocab]; `weight` is the embedding's own parameter when tied."""

    def __init__(self, weight: nn.Parameter) -> None:
        super().__init__()
        self.weight = weight
        self.hook_out = Site()

    def forward(self, x: Tensor) -> Tensor:
        return self.hook_out(F.linear(x, self.weight))

    @property
    def W_U(self) -> Tensor:
        """[d_model, d_vocab], TransformerLens' layout."""
        return self.weight.T
