"""Token embedding, learned positions, and the (tied or own) unembedding."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.hooks.points import Site


class Embed(nn.Module):
    """Token ids [batch, pos] -> `scale` times their rows of the matrix, [batch, pos, d_model]."""

    def __init__(self, d_vocab: int, d_model: int, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(d_vocab, d_model))
        self.hook_out = Site()

    def forward(self, tokens: Tensor) -> Tensor:
        x = F.embedding(tokens, self.weight)
        return self.hook_out(x if self.scale == 1 else x * self.scale)


class PosEmbed(nn.Module):
    """Learned absolute positions [batch, pos] -> [batch, pos, d_model]."""

    def __init__(self, n_ctx: int, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(n_ctx, d_model))
        self.hook_out = Site()

    def forward(self, positions: Tensor) -> Tensor:
        return self.hook_out(F.embedding(positions, self.weight))


class Unembed(nn.Module):
    """Logits x W_U, [..., d_model] -> [..., d_vocab]; `weight` is the embedding's own parameter when tied.

    With a soft cap c > 0 the logits are c tanh(x W_U / c).
    """

    def __init__(self, weight: nn.Parameter, soft_cap: float = 0.0) -> None:
        super().__init__()
        self.weight, self.soft_cap = weight, soft_cap
        self.hook_out = Site()

    def forward(self, x: Tensor) -> Tensor:
        return self.hook_out(self.plain(x))

    def plain(self, x: Tensor) -> Tensor:
        """The same map; no site fires."""
        logits = F.linear(x, self.weight)
        return self.soft_cap * (logits / self.soft_cap).tanh() if self.soft_cap > 0 else logits

    @property
    def W_U(self) -> Tensor:
        """[d_model, d_vocab], TransformerLens' layout."""
        return self.weight.T
