"""How z_r, where it is read along a direction, reads what it was made of, for loops whose carry is linear."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor


@dataclass(frozen=True)
class Reads:
    """z_r . read = h_0 . start + sum_i F_i . updates[i] + sum_i e_i . injected[i], all [..., d_model].

    F_i = B(x_i) - x_i is the Body's update of iteration i, x_i what its Body reads; e_i is what iteration i injects.
    """

    start: Tensor
    updates: tuple[Tensor, ...]
    injected: tuple[Tensor, ...] = ()
    added: Callable[[Any], Tensor] | None = None
    """State before an iteration -> its e_i [batch, pos, d_model]; None for a loop that injects nothing."""

    @classmethod
    def weighted(cls, read: Tensor, weights: Sequence[float]) -> Self:
        """Those of plain numbers: the weight of h_0, then of each F_i."""
        # a weight of 1 shares the tensor: most loops then hold it once, whatever their depth
        scaled = [read if weight == 1 else weight * read for weight in weights]
        return cls(scaled[0], tuple(scaled[1:]))


def doubled(n: int) -> tuple[float, ...]:
    """Weights in h_n of h_0 and F_0 … F_{n-1} where h_{k+1} = 2 h_k + F_k."""
    return (2.0**n, *(2.0 ** (n - 1 - i) for i in range(n)))


def between(n_iters: int) -> tuple[float, ...]:
    """Weights in z_r of h_0 and each F_i where h_{k+1} = 2 h_k + F_k and z_{k+1} = h_k + F_k."""
    return (*doubled(n_iters - 1), 1.0) if n_iters else (1.0,)
