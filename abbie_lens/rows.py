"""Rows: the tokens of a batch that are still computed, packed one after the other.

A packed tensor is [1, n, ...] with one row for each such token, in the order of batch and position. Everything
that works on tokens one by one runs on it as on any batch; attention alone needs to know whose keys a row may see,
and takes the queries as [batch, width, ...], `width` the most that any row of the batch has.

Kernels take another way through a product of few rows, and round otherwise. So that a token does not feel how many
others are computed, the last one is repeated until there are `LEAST` rows, and widths are even: the same numbers come
out of every copy, and one of them is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

LEAST = 16
"""Rows from which on the kernels of matrix products that we know treat each row alike; a test tries it."""


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
    def packed(self) -> Tensor:
        """[m] the token of each row of a packed tensor: `index`, its last one repeated where rows are few."""
        # A single new token has no later ones, whose number it could feel.
        return repeat_last(self.index) if self.shape[1] > 1 else self.index

    @property
    def lead(self) -> tuple[int, int]:
        """(1, m), leading axes of a packed tensor."""
        return 1, self.packed.shape[0]

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
        """Most tokens that a row of the batch has, made even where there are several positions."""
        most = int(self._counts.max()) if len(self) else 0
        return most + most % 2 if self.shape[1] > 1 else most

    @cached_property
    def _place(self) -> Tensor:
        """[m] where each stands in [batch * width]."""
        batch_of = self.index // self.shape[1]
        first = self._counts.cumsum(0) - self._counts
        rank = torch.arange(len(self), device=self.index.device) - first[batch_of]
        return self.like(batch_of * self.width + rank)

    @cached_property
    def _from(self) -> Tensor:
        """[batch * width] which row stands there; any where a row of the batch has fewer."""
        # Rows are gathered, not scattered: that copies whole rows at a time.
        nothing = self.index.new_zeros(self.shape[0] * self.width)
        number = torch.arange(len(self), device=self.index.device)
        return nothing.index_copy_(0, self._place[: len(self)], number)

    def take(self, x: Tensor) -> Tensor:
        """[batch, pos, ...] -> [1, m, ...]."""
        return x.flatten(0, 1).index_select(0, self.packed)[None]

    def put(self, packed: Tensor, into: Tensor) -> Tensor:
        """`into` [batch, pos, ...] with these tokens' values from `packed` [1, m, ...]."""
        return into.flatten(0, 1).index_copy(0, self.index, self.own(packed)).view_as(into)

    def spread(self, packed: Tensor) -> Tensor:
        """[1, m, ...] -> [batch, pos, ...]; NaN (False, 0) at all other tokens."""
        nothing = float("nan") if packed.is_floating_point() else 0
        return self.put(packed, packed.new_full((*self.shape, *packed.shape[2:]), nothing))

    def side_by_side(self, packed: Tensor) -> Tensor:
        """[1, m, ...] -> [batch, width, ...]; anything where a row of the batch has fewer."""
        wide = packed[0].index_select(0, self._from)
        return wide.view(self.shape[0], self.width, *packed.shape[2:])

    def in_line(self, wide: Tensor) -> Tensor:
        """[batch, width, ...] -> [1, m, ...]."""
        return wide.flatten(0, 1).index_select(0, self._place)[None]

    def among(self, kept: Tensor) -> tuple[Rows, Tensor]:
        """Those of them that are `kept` [n], and which they are, [number kept]."""
        which = kept.nonzero()[:, 0]
        return Rows(self.shape, self.index[which]), which

    def own(self, packed: Tensor) -> Tensor:
        """[1, m, ...] -> [n, ...]: each token once."""
        return packed[0, : len(self)]

    def like(self, each: Tensor) -> Tensor:
        """[n] of the tokens -> [m] of their rows, repeated as `packed` is."""
        return repeat_last(each) if self.lead[1] > len(self) else each


def repeat_last(index: Tensor) -> Tensor:
    """[n] -> [m], its last entry repeated until there are `LEAST`; none of none."""
    missing = LEAST - index.shape[0]
    return torch.cat([index, index[-1:].expand(missing)]) if 0 < missing < LEAST else index


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
    if isinstance(new, tuple) and isinstance(old, tuple) and len(new) == len(old):
        return tuple(where_tree(kept, *pair) for pair in zip(new, old, strict=True))
    return new  # what grows by an iteration is history, and goes on
