"""What a collection holds of some tokens, as a model that is stepped through: nothing is run, so any analysis of h and z reads it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from abbie_lens.collecting import Shard

STATE, READOUT = "loop.hook_state", "loop.hook_readout"


class Playback:
    """`begin` and `step` of tokens [first, last) of a shard, in the order of its index, each a sequence of its own.

    A token has no neighbours here: what is read must be of each alone. z is NaN where read-outs
    were not collected. All else (tokenizer, final norm, identity) is the model's that was collected.
    """

    def __init__(self, model: Any, shard: Shard, rows: slice) -> None:
        self.model, self.shard, self.rows = model, shard, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def begin(self, tokens: Tensor, n_iters: int, attention_mask: Any = None) -> Any:
        """h_0 and z_0 of the tokens."""
        return self._at(0)

    def step(self, state: Any) -> Any:
        """The next row."""
        return self._at(state.k + 1)

    def _at(self, k: int) -> Any:
        h = self._read(STATE, k)
        z = self._read(READOUT, k) if READOUT in self.shard.rows else torch.full_like(h, torch.nan)
        return SimpleNamespace(k=k, h=h, z=z)

    def _read(self, site: str, k: int) -> Tensor:
        found = self.shard.tensor(f"{site}@{k}", self.rows)
        return found.to(self.model.device, self.model.dtype)[:, None]
