"""Rotary positions: pairs of channels turn together by position * base^(-2i/width), i the pair's number.

Half-split: pair i is channels i and i + width/2. Adjacent: channels 2i and 2i + 1. Channels beyond the first
`rotary_dim` do not turn.

NTK by parts: the n turns of a pair over the original context say how much of its speed w it keeps,
    w' = s w + (1 - s) w / factor,   s = clip((n - low) / (high - low), 0, 1)
Source: the rope scaling `llama3` of transformers.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig


def rotary_table(
    cfg: LoopedConfig, positions: Tensor, dtype: torch.dtype
) -> tuple[Tensor, Tensor] | None:
    """cos and sin, each [batch, pos, 1, rotary_dim], of positions [batch, pos]; None for a model without rotary ones.

    Angles are in float32 whatever the model's dtype. Source: arXiv 2104.09864.
    """
    if cfg.positional_embedding_type != "rotary":
        return None
    width = cfg.rotary_width
    frequency = cfg.rotary_base ** (
        -torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    )
    if cfg.use_NTK_by_parts_rope:
        frequency = _by_parts(cfg, frequency)
    angle = positions[..., None].float() * frequency
    angle = angle.repeat_interleave(2, -1) if cfg.rotary_adjacent_pairs else angle.repeat(1, 1, 2)
    angle = angle[:, :, None, :]
    return angle.cos().to(dtype), angle.sin().to(dtype)


def _by_parts(cfg: LoopedConfig, frequency: Tensor) -> Tensor:
    """[pair] radians per position, slowed where a pair turns seldom over the original context."""
    low, high = cfg.NTK_by_parts_low_freq_factor, cfg.NTK_by_parts_high_freq_factor
    turns = cfg.NTK_original_ctx_len * frequency / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return kept * frequency + (1 - kept) * frequency / cfg.NTK_by_parts_factor


def rotate(x: Tensor, rotary: tuple[Tensor, Tensor], adjacent: bool = False) -> Tensor:
    """x [batch, pos, head, d_head] turned by its position."""
    cos, sin = rotary
    if cos.shape[-1] < x.shape[-1]:
        turning, still = x.tensor_split([cos.shape[-1]], dim=-1)
        return torch.cat((rotate(turning, rotary, adjacent), still), dim=-1)
    if adjacent:
        first, second = x[..., ::2], x[..., 1::2]
        across = torch.stack((-second, first), dim=-1).flatten(-2)
    else:
        first, second = x.chunk(2, dim=-1)
        across = torch.cat((-second, first), dim=-1)
    # In place where no gradient needs the product: fresh memory costs more than the arithmetic.
    add = torch.addcmul if torch.is_grad_enabled() else Tensor.addcmul_
    return add(x * cos, across, sin)
