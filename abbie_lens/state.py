"""State: everything a loop carries between iterations, immutable; Context: positions, masks and caches of a run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

Slot = tuple[str | int, ...]
KVCache = dict[Slot, tuple[Tensor, Tensor]]
"""Keys and values by slot (stage, iteration, block); each [batch, pos, kv_head, d_head]."""


@dataclass(frozen=True)
class Context:
    """What every block of a run shares: where tokens stand, who sees whom, and what came before."""

    positions: Tensor
    """[batch or 1, pos] position ids; padding has 0."""
    mask: Tensor | None
    """[batch, 1, query, key] True where attention is allowed; None for plain causal attention."""
    rotary: tuple[Tensor, Tensor] | None
    """cos and sin, each [batch or 1, pos, 1, d_head]; None for learned positions."""
    kv: KVCache | None = None
    """Written in place while a stage runs on a private copy; None when nothing is cached."""

    def private(self) -> Context:
        """A copy whose cache may be written without changing the State it came from."""
        return self if self.kv is None else dataclasses.replace(self, kv=dict(self.kv))


@dataclass(frozen=True)
class State:
    """One moment of a run: after `k` of `n_iters` iterations."""

    tokens: Tensor
    """[batch, pos] token ids."""
    attention_mask: Tensor | None
    """[batch, past + pos] 1 for tokens, 0 for padding; None without padding."""
    n_iters: int
    """Planned depth r, fixed by `begin`."""
    k: int
    """Iterations done."""
    h: Tensor
    """[batch, pos, d_model] h_k, what the next Body application reads."""
    z: Tensor
    """[batch, pos, d_model] z_k, what the Tail would read now."""
    context: Context
    carry: Mapping[str, Any] = field(default_factory=dict)
    """What the family carries besides h."""

    def replace(self, **changes: Any) -> State:
        """A copy with the named fields changed: the way to patch or restart a run."""
        return dataclasses.replace(self, **changes)


def position_ids(
    attention_mask: Tensor | None, n_past: int, n_new: int, device: torch.device
) -> Tensor:
    """[batch or 1, new] positions counted over real tokens only, so that left padding shifts nothing."""
    if attention_mask is None:
        return torch.arange(n_past, n_past + n_new, device=device)[None]
    return (attention_mask.long().cumsum(-1) - 1).clamp_min(0)[:, n_past:]


def allowed(
    attention_mask: Tensor | None, n_past: int, n_new: int, device: torch.device
) -> Tensor | None:
    """[batch or 1, 1, query, key] boolean mask, or None where plain causal attention says the same."""
    if attention_mask is None and n_past == 0:
        return None
    n_keys = n_past + n_new
    queries = torch.arange(n_past, n_keys, device=device)
    mask = (torch.arange(n_keys, device=device)[None] <= queries[:, None])[None, None]
    if attention_mask is not None:
        # A padded query keeps itself: a row without any key would be NaN and spread through the batch.
        itself = torch.arange(n_keys, device=device)[None] == queries[:, None]
        mask = (mask & attention_mask.bool()[:, None, None, :]) | itself
    return mask
