"""What a loop keeps of earlier tokens in the cache of keys and values, beside those of its blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from abbie_lens.state import State


def with_earlier(state: State, what: str, new: Tensor) -> Tensor:
    """`new` [batch, n, ...] after what the cache holds of this iteration, and the whole of it cached."""
    kv = state.context.kv
    if kv is None:
        return new
    slot = ("loop", what, state.k)
    whole = torch.cat([kv[slot][0], new], dim=1) if slot in kv else new
    kv[slot] = (whole, whole)
    return whole
