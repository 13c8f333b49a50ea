"""Two rules that loop a window of a trained stack without training it: damped, and anchored to one plain pass.

g is the whole window, x_0 what enters it, K the planned number of iterations, D one damped step:

    D(x) = (1 - 1/K) x + (1/K) g(x)

* damped:    h_{k+1} = D(h_k),  z_k = h_k: K small steps along g(x) - x instead of one whole one.
* anchored:  the same h; z_k = b g(x_0) + (1 - b) h_k for k >= 1, z_0 = x_0. The source writes F^K(x_0) for what is mixed
  with g(x_0); we read F as D, which `inner="whole"` changes into g itself.

At K = 1 both are g, so the model is the plain one. Source: arXiv 2605.23872.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from abbie_lens.loops.base import Advance, LoopFamily, require

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

INNER = ("damped", "whole")


def damp(x: Tensor, gx: Tensor, n_iters: int) -> Tensor:
    """(1 - 1/K) x + (1/K) g(x); at K = 1 it is g(x), to the last bit."""
    return gx if n_iters <= 1 else x + (gx - x) / n_iters


@dataclass(frozen=True)
class Damped(LoopFamily):
    """K-th parts of the window's update, K being the planned depth."""

    family: ClassVar[str] = "damped"

    def entry_weights(self, n_iters: int) -> tuple[float, ...]:
        """h_r = h_0 + (1/K) sum_i F_i, K = r."""
        return (1.0, *(1 / n_iters for _ in range(n_iters)))

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = (1 - 1/K) h_k + (1/K) g(h_k)."""
        return Advance(damp(state.h, model.body(state.h, state), state.n_iters))


@dataclass(frozen=True)
class Anchored(LoopFamily):
    """The read-out keeps a share `beta` of what one plain pass gives."""

    family: ClassVar[str] = "anchored"
    beta: float = 0.5
    inner: str = "damped"
    """What is iterated: the `damped` step, or the `whole` window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.beta <= 1, "beta", self.beta, "a number from 0 to 1")
        require(self.inner in INNER, "inner", self.inner, f"one of {INNER}")

    def check(self, cfg: LoopedConfig) -> None:
        """Fits every shape."""

    def entry_weights(self, n_iters: int) -> tuple[float, ...]:
        """(1 - b) of what the iterated map weighs, and b more for F_0, which is the plain pass's."""
        each = 1.0 if self.inner == "whole" else 1 / max(n_iters, 1)
        plain = (self.beta * (i == 0) for i in range(n_iters))
        return (1.0, *(each + (own - self.beta * each) for own in plain))

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = D(h_k) or g(h_k), read out mixed with g(x_0), which the first step leaves in the carry."""
        out = model.body(state.h, state)
        plain = state.carry.get("plain", out)
        h = out if self.inner == "whole" else damp(state.h, out, state.n_iters)
        # not beta plain + (1 - beta) h: where both are one tensor, as at K = 1, nothing may be rounded
        return Advance(h, h + self.beta * (plain - h), {"plain": plain})
