"""Norms that survive states too large to square, and entropies of distributions with impossible tokens.

Squares overflow at norms near 2^63, which a doubling family reaches after about 62 iterations, so norms
are taken of the vector divided by its largest entry, in float64 where the device has it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def wide(x: Tensor) -> Tensor:
    """`x` in float64, or in float32 on a device without float64."""
    return x.float() if x.device.type == "mps" else x.double()


def norm(x: Tensor) -> Tensor:
    """[..., d] -> [...] Euclidean norm; NaN where `x` holds NaN or infinity."""
    x = wide(x)
    largest = x.abs().amax(-1, keepdim=True)
    scale = torch.where(largest == 0, 1.0, largest)
    return (torch.linalg.vector_norm(x / scale, dim=-1, keepdim=True) * scale).squeeze(-1)


def unit(x: Tensor) -> Tensor:
    """[..., d] -> [..., d] x / |x|; NaN for the zero vector."""
    x = wide(x)
    scaled = x / x.abs().amax(-1, keepdim=True)
    return scaled / torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)


def entropy(log_probs: Tensor) -> Tensor:
    """[..., d_vocab] log-probabilities -> [...] entropy in nats; NaN where they are NaN."""
    # An impossible token (log p = -inf) counts 0: 0 * -inf would be NaN.
    return -(log_probs.exp() * log_probs.clamp_min(-1e4)).sum(-1)


def kl_divergence(log_p: Tensor, log_q: Tensor) -> Tensor:
    """[..., d_vocab] log-probabilities -> [...] KL(p ‖ q) in nats, never negative."""
    # -inf - -inf would turn the 0 of an impossible token into NaN.
    return (log_p.exp() * (log_p.clamp_min(-1e4) - log_q.clamp_min(-1e4))).sum(-1).clamp_min(0)
