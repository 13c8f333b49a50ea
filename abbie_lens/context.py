"""Context: what all blocks of a run share: positions, who sees whom, and the cached keys and values."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.components.positions import rotary_table
from abbie_lens.config import LoopedConfig
from abbie_lens.errors import InputError

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


def make_context(
    cfg: LoopedConfig,
    tokens: Tensor,
    attention_mask: Tensor | None,
    past: KVCache | None,
    dtype: torch.dtype,
) -> Context:
    """The context of new tokens [batch, pos] after those in `past`.

    Errors: InputError for more positions than the model has, or a mask of another shape.
    """
    n_past = next(iter(past.values()))[0].shape[1] if past else 0
    batch, n_new = tokens.shape
    if n_past + n_new > cfg.n_ctx:
        raise InputError(
            f"tokens: {n_past + n_new} positions exceed the model's context of {cfg.n_ctx}."
        )
    if attention_mask is not None and attention_mask.shape != (batch, n_past + n_new):
        raise InputError(
            f"attention_mask: shape {tuple(attention_mask.shape)}; "
            f"expected [batch, pos] = {(batch, n_past + n_new)}, earlier tokens included."
        )
    positions = position_ids(attention_mask, n_past, n_new, tokens.device)
    rotary = None
    if cfg.positional_embedding_type == "rotary":
        rotary = rotary_table(positions, cfg.head_width, cfg.rotary_base, dtype)
    mask = allowed(attention_mask, n_past, n_new, tokens.device)
    return Context(positions, mask, rotary, None if past is None else dict(past))


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
