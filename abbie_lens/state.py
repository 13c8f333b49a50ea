"""State: everything a loop carries between iterations, immutable."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from abbie_lens.context import Context


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
