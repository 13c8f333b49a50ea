"""Changing the resolution of a sequence: token order, chunks down, chunks up and shifted so that nothing leaks.

Chunk j of size g covers positions jg ... jg + g - 1. What a chunk says reaches token i = t + s from its member t;
with s >= g - 1 the last position that chunk has seen is at most i.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from abbie_lens.components.positions import rotary_table
from abbie_lens.context import Context, KVCache, allowed

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig


def by_position(x: Tensor, order: Tensor | None) -> Tensor:
    """x [batch, pos, d] with real tokens first, in their order; padding follows, where it is causally harmless."""
    return x if order is None else x.gather(1, order[..., None].expand(-1, -1, x.shape[-1]))


def real_first(attention_mask: Tensor | None) -> Tensor | None:
    """[batch, pos] the order of `by_position`; None without padding."""
    if attention_mask is None:
        return None
    return torch.argsort(attention_mask.bool().logical_not().byte(), dim=1, stable=True)


def chunks(x: Tensor, size: int, first: int = 0) -> Tensor:
    """The complete chunks from number `first` on: [batch, pos, d] -> [batch, chunk, size, d]."""
    n_chunks = x.shape[1] // size
    return x[:, first * size : n_chunks * size].unflatten(1, (n_chunks - first, size))


def spread(z: Tensor, weights: Tensor, shift: int, n_pos: int) -> Tensor:
    """u_i = sqrt(g) beta_{j,rho} z_j of member rho of chunk j, moved `shift` later, zeros before.

    z [batch, chunk, d], weights beta [batch, chunk, g] -> [batch, n_pos, d].
    """
    size = weights.shape[-1]
    u = (size**0.5 * weights[..., None] * z[:, :, None]).flatten(1, 2)
    late = max(0, n_pos - shift - u.shape[1])
    return F.pad(u, (0, 0, shift, late))[:, :n_pos]


def chunk_context(
    cfg: LoopedConfig, n_past: int, n_new: int, like: Tensor, kv: KVCache | None
) -> Context:
    """The context of `n_new` chunks after `n_past`: their position is their number, and they are causal."""
    positions = torch.arange(n_past, n_past + n_new, device=like.device)[None]
    rotary = rotary_table(cfg, positions, like.dtype)
    return Context(positions, allowed(None, n_past, n_new, like.device), rotary, kv)
