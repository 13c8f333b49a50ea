"""Values of one run put into cells of another: cell (position, head) of every row of a batch, in one hook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from probes.interventions.states import joined


@dataclass(frozen=True)
class Cells:
    """Which part of row j is replaced: `positions[j]` and `heads[j]`, None meaning all of them."""

    index: Tensor
    """[row] sequence that each row is a run of."""
    positions: Tensor | None
    """[row]; None: every position in `mask`."""
    heads: Tensor | None
    """[row] head, the axis after the position; None: all."""
    mask: Tensor
    """[batch, pos] positions that have another value to take."""
    start: int = 0
    """Position that the rows begin at; those before it are the recorded run's."""

    def put(self, x: Tensor, values: Tensor) -> Tensor:
        """x [row, pos - start, ...] with `values` [batch, pos, ...] in the cells."""
        rows = torch.arange(len(x), device=x.device)
        out = x.clone()
        if self.positions is not None:
            at = self.positions
            if self.heads is None:
                out[rows, at - self.start] = values[self.index, at]
            else:
                out[rows, at - self.start, self.heads] = values[self.index, at, self.heads]
            return out
        values, keep = values[:, self.start :], self.mask[self.index, self.start :]
        if self.heads is None:
            return torch.where(keep.view(*keep.shape, *[1] * (x.ndim - 2)), values[self.index], x)
        new, old = values[self.index, :, self.heads], x[rows, :, self.heads]
        out[rows, :, self.heads] = torch.where(
            keep.view(*keep.shape, *[1] * (new.ndim - 2)), new, old
        )
        return out

    def patched(self, state: Any, other: Any) -> Any:
        """`state` of the rows with all that `other`, of the batch, carries at the positions, and the token there.

        Value embeddings read the token again, in the Tail too.
        """

        def put(x: Tensor, values: Tensor) -> Tensor:
            return self.put(x, values) if values.shape[:2] == self.mask.shape else x

        tokens, context = self.put(state.tokens, other.tokens), state.context
        if context.tokens is not None:
            context = context.replace(tokens=tokens)
        return joined(put, state, other).replace(tokens=tokens, context=context)
