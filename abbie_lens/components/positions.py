"""Rotary positions in the half-split form: channels i and i + d_head/2 turn together by position * base^(-2i/d_head)."""

from __future__ import annotations

import torch
from torch import Tensor


def rotary_table(
    positions: Tensor, d_head: int, base: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """cos and sin, each [batch, pos, 1, d_head]; angles in float32 whatever the model's dtype. Source: arXiv 2104.09864."""
    frequency = base ** (
        -torch.arange(0, d_head, 2, device=positions.device, dtype=torch.float32) / d_head
    )
    angle = (positions[..., None].float() * frequency).repeat(1, 1, 2)[:, :, None, :]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    """x [batch, pos, head, d_head] turned by its position."""
    cos, sin = rotary
    first, second = x.chunk(2, dim=-1)
    turned, across = x * cos, torch.cat((-second, first), dim=-1)
    # In place where no gradient needs the product: fresh memory costs more than the arithmetic.
    add = torch.addcmul if torch.is_grad_enabled() else Tensor.addcmul_
    return add(turned, across, sin)
