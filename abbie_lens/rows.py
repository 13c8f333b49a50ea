"""Rows: the tokens of a batch that are still computed, packed one after the other.

A packed tensor is [1, n, ...] with one row for each such token, in the order of batch and position. Everything
that works on tokens one by one runs on it as on any batch; attention alone needs to know whose keys a row may see,
and takes the queries as [batch, width, ...], `width` the most that any row of the batch has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Rows:
    """Which tokens [batch, pos] are packed."""

    shape: tuple[int, int]
    """(batch, pos) of the tokens they are among."""
    index: Tensor
    """[n] batch * pos + position, rising."""

    @classmethod
    def of(cls, chosen: Tensor) -> Rows:
        """The rows of tokens `chosen` [batch, pos]."""
        batch, pos = chosen.shape
        return cls((batch, pos), chosen.flatten().nonzero()[:, 0])

    def __len__(self) -> int:
        return self.index.shape[0]

    @cached_property
    def computed(self) -> Tensor:
        """[batch, pos] whether a token is among them."""
        among = torch.zeros(self.shape, dtype=torch.bool, device=self.index.device)
        return among.view(-1).index_fill_(0, self.index, True).view(self.shape)

    @cached_property
    def positions(self) -> Tensor:
        """[n] position of each in its row of the batch, padding counted."""
        return self.index % self.shape[1]

    @cached_property
    def _counts(self) -> Tensor:
        return torch.bincount(self.index // self.shape[1], minlength=self.shape[0])

    @cached_property
    def width(self) -> int:
        """Most tokens that a row of the batch has."""
        return int(self._counts.max()) if len(self) else 0

    @cached_property
    def even(self) -> bool:
        """Whether all rows of the batch have as many."""
        return len(self) == self.width * self.shape[0]

    @cached_property
    def _place(self) -> Tensor:
        """[n] where each stands in [batch * width]."""
        batch_of = self.index // self.shape[1]
        first = self._counts.cumsum(0) - self._counts
        rank = torch.arange(len(self), device=self.index.device) - first[batch_of]
        return batch_of * self.width + rank

    def take(self, x: Tensor) -> Tensor:
        """[batch, pos, ...] -> [1, n, ...]."""
        return x.flatten(0, 1).index_select(0, self.index)[None]

    def put(self, packed: Tensor, into: Tensor) -> Tensor:
        """`into` [batch, pos, ...] with these tokens' values from `packed` [1, n, ...]."""
        return into.flatten(0, 1).index_copy(0, self.index, packed[0]).view_as(into)

    def spread(self, packed: Tensor) -> Tensor:
        """[1, n, ...] -> [batch, pos, ...]; NaN (False, 0) at all other tokens."""
        nothing = float("nan") if packed.is_floating_point() else 0
        return self.put(packed, packed.new_full((*self.shape, *packed.shape[2:]), nothing))

    def side_by_side(self, packed: Tensor) -> Tensor:
        """[1, n, ...] -> [batch, width, ...]; zeros where a row of the batch has fewer."""
        rest = packed.shape[2:]
        if self.even:
            return packed.view(self.shape[0], self.width, *rest)
        wide = packed.new_zeros((self.shape[0] * self.width, *rest))
        return wide.index_copy(0, self._place, packed[0]).view(self.shape[0], self.width, *rest)

    def in_line(self, wide: Tensor) -> Tensor:
        """[batch, width, ...] -> [1, n, ...]."""
        flat = wide.flatten(0, 1)
        return (flat if self.even else flat.index_select(0, self._place))[None]

    def among(self, kept: Tensor) -> Rows:
        """Those of them that are `kept` [n]."""
        return Rows(self.shape, self.index[kept])


def take_tree(tree: Any, lead: tuple[int, int], index: Tensor) -> Any:
    """Tensors of `tree` (mappings, tuples, lists) whose leading axes are `lead`, by rows `index` of both: [1, n, ...].

    All else is left as it is.
    """
    if isinstance(tree, Tensor):
        if tree.shape[:2] != lead:
            return tree
        return tree.flatten(0, 1).index_select(0, index)[None]
    if isinstance(tree, Mapping):
        return {key: take_tree(value, lead, index) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        return type(tree)(take_tree(value, lead, index) for value in tree)
    return tree


def where_tree(kept: Tensor, new: Any, old: Any) -> Any:
    """`new` where `kept` [1, n], `old` elsewhere, for tensors [1, n, ...] that stand in both at the same place."""
    if isinstance(new, Tensor) and isinstance(old, Tensor):
        if new.shape != old.shape or new.shape[:2] != kept.shape:
            return new
        return new.where(kept.view(*kept.shape, *[1] * (new.ndim - 2)), old)
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        return {key: where_tree(kept, value, old.get(key)) for key, value in new.items()}
    return new
