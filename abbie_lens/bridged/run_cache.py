"""RunCache: what transformers' attention takes for its key/value cache, with a slot for every (stage, iteration, block).

A cache of transformers has one list of keys a layer, and a layer in a loop would mix its iterations there. This one stands
in its place for one run: it says how many tokens came before, so that masks and positions are right, and files what a
block writes under the stage and iteration that is running. Sliding windows keep all keys; the mask leaves out the far ones.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from transformers.cache_utils import Cache

from abbie_lens.context import KVCache, Slot


class RunCache(Cache):
    """Keys and values of the tokens before a run; what the run writes goes into the cache it is given by `serve`."""

    def __init__(self, n_past: int) -> None:
        super().__init__(layers=[])
        self.n_past = n_past
        self._kv: KVCache = {}
        self._slot: Slot = ()

    def serve(self, kv: KVCache, slot: Slot) -> None:
        """Until told otherwise, read and extend `slot` of `kv`, in place."""
        self._kv, self._slot = kv, slot

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        """[batch, kv_head, pos, d_head] of new tokens -> the same of all tokens so far; kept as [batch, pos, kv_head, d_head]."""
        k, v = key_states.transpose(1, 2), value_states.transpose(1, 2)
        if self._slot in self._kv:
            k, v = (torch.cat(pair, 1) for pair in zip(self._kv[self._slot], (k, v), strict=True))
        self._kv[self._slot] = (k, v)
        return k.transpose(1, 2), v.transpose(1, 2)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Tokens before this run, whatever it has written since: the same in every iteration."""
        return self.n_past

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        """Keys that a block attends to, and the position of the first."""
        return self.n_past + query_length, 0
