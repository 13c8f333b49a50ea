"""The logits of one token of each run: norm and unembedding at that token alone, where the model lets it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SITE = "ln_final.hook_normalized"


class AnswerLogits:
    """logits [row, d_vocab] of the read-out at one position a row.

    A hook on the final norm hands on that position alone, so that the unembedding is not of all tokens. This is tried on
    `state` against the whole read-out; a model with which it differs is read out whole.
    """

    def __init__(self, model: Any, state: Any, at: Tensor) -> None:
        """`at` [batch] is each sequence's position in `state`."""
        self.model = model
        self.short = SITE in model.hook_dict and self._agrees(state, at)
        """Whether one position is enough."""

    def __call__(self, state: Any, at: Tensor) -> Tensor:
        """[row, d_vocab] logits of `state` at position `at` [row] of each row."""
        return self._at_once(state, at) if self.short else self._whole(state, at)

    def _whole(self, state: Any, at: Tensor) -> Tensor:
        logits = self.model.readout(state)
        return logits[torch.arange(len(at), device=logits.device), at]

    def _at_once(self, state: Any, at: Tensor) -> Tensor:
        def only(x: Tensor, hook: Any) -> Tensor:
            return x[torch.arange(len(at), device=x.device), at][:, None]

        with self.model.hooks(fwd_hooks=[(SITE, only)]):
            return self.model.readout(state)[:, 0]

    @torch.no_grad()
    def _agrees(self, state: Any, at: Tensor) -> bool:
        whole = self._whole(state, at)
        try:
            short = self._at_once(state, at)
        except Exception:  # each bridged model's own code raises what it likes
            return False
        if short.shape != whole.shape:
            return False
        off = (short - whole).abs().max() / whole.abs().max().clamp_min(1e-6)
        return bool(off <= 100 * torch.finfo(whole.dtype).eps)
