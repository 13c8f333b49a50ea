"""Which stored tensor is which of ours: one entry a key, so that nothing can be missing or left over unseen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Rows:
    """Ours are the rows of theirs, one under the other in this order; with one name they are the same tensor."""

    names: tuple[str, ...]
    optional: bool = False
    """The key may be absent: a copy of a tied tensor."""

    def shape(self, ours: Shapes) -> tuple[int, ...]:
        """Theirs."""
        return (sum(ours[name][0] for name in self.names), *ours[self.names[0]][1:])

    def split(self, tensor: Tensor, ours: Shapes) -> tuple[Tensor, ...]:
        """Ours, in the order of `names`."""
        return tensor.split([ours[name][0] for name in self.names])


@dataclass(frozen=True)
class HeadRows(Rows):
    """Like Rows inside every head, head by head."""

    n_heads: int = 1

    def split(self, tensor: Tensor, ours: Shapes) -> tuple[Tensor, ...]:
        """Ours, in the order of `names`."""
        parts = tensor.unflatten(0, (self.n_heads, len(self.names), -1)).unbind(1)
        return tuple(part.flatten(0, 1) for part in parts)


@dataclass(frozen=True)
class HeadBiases(Rows):
    """Biases of several projections, theirs [projection, 1, head, d_head]."""

    n_heads: int = 1

    def shape(self, ours: Shapes) -> tuple[int, ...]:
        """Theirs."""
        width = ours[self.names[0]][0] // self.n_heads
        return (len(self.names), 1, self.n_heads, width)

    def split(self, tensor: Tensor, ours: Shapes) -> tuple[Tensor, ...]:
        """Ours, in the order of `names`."""
        return tensor.flatten(1).unbind(0)


@dataclass(frozen=True)
class Scaled(Rows):
    """Ours is theirs times a factor."""

    factor: float = 1.0

    def split(self, tensor: Tensor, ours: Shapes) -> tuple[Tensor, ...]:
        """Ours."""
        return (tensor * self.factor,)


def rows(*names: str, optional: bool = False) -> Rows:
    """An entry for the rows of one stored tensor."""
    return Rows(names, optional)


Entries = dict[str, Rows]
"""Their key -> what it is of ours."""
