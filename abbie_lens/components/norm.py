"""RMSNorm and LayerNorm with TransformerLens' sites; one fused kernel when nobody looks inside.

`plain` is the same map without its sites, for a loop that applies a norm a second time.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.hooks.points import Site


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last axis; without `learned` the weight is 1 for good.

    Source: arXiv 1910.07467.
    """

    weight: Tensor

    def __init__(self, width: int, eps: float, learned: bool = True) -> None:
        super().__init__()
        self.eps = eps
        if learned:
            self.weight = nn.Parameter(torch.ones(width))
        else:
            self.register_buffer("weight", torch.ones(width), persistent=False)
        self.hook_scale = Site()
        self.hook_normalized = Site()

    def reset_buffers(self, device: torch.device) -> None:
        """The weight that is not learned, anew on `device`, for a model that was made without memory."""
        self.weight = torch.ones_like(self.weight, device=device)

    def forward(self, x: Tensor) -> Tensor:
        if not (self.hook_scale.active or self.hook_normalized.active):
            return self.plain(x)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        scale = self.hook_scale((wide.square().mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(wide / scale).to(x.dtype) * self.weight

    def plain(self, x: Tensor) -> Tensor:
        """The same map; no site fires."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + eps) * weight + bias, over the last axis. Source: arXiv 1607.06450."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.hook_scale = Site()
        self.hook_normalized = Site()

    def forward(self, x: Tensor) -> Tensor:
        if not (self.hook_scale.active or self.hook_normalized.active):
            return self.plain(x)
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        centred = wide - wide.mean(-1, keepdim=True)
        scale = self.hook_scale((centred.square().mean(-1, keepdim=True) + self.eps).sqrt())
        return self.hook_normalized(centred / scale).to(x.dtype) * self.weight + self.bias

    def plain(self, x: Tensor) -> Tensor:
        """The same map; no site fires."""
        return F.layer_norm(x, self.weight.shape, self.weight, self.bias, self.eps)


class NoNorm(nn.Identity):
    """x, where a block has no norm; no site."""

    def plain(self, x: Tensor) -> Tensor:
        """x."""
        return x


def make_norm(kind: str, width: int, eps: float) -> RMSNorm | LayerNorm:
    """The norm named by `LoopedConfig.normalization_type`."""
    return LayerNorm(width, eps) if kind == "LN" else RMSNorm(width, eps, learned=kind == "RMS")
