"""Fully Looped Transformer: every block sees the final state of the loop before.

    x_0 = N(E[x]),  h_0 = x_0;  every loop restarts at x_0 and the first one is a plain transformer

    flt      block: x <- x + W_O Attn(Q = W_Q N(h_k), K = W_K N(x), V = W_V N(x)),  x <- x + MLP(N(x))
    flt-res  block: x <- N(x + h_k), then the plain block

    h_{k+1} = N(B(x_0; h_k)),  z_k = h_k,  logits = c tanh(W_U N_f(h) / c) with c = 15, N_f the model's final norm

N is RMSNorm without weights; no parameters are added. Keys and values are cached in every loop (the published
code caches the last loop's alone, which decoding then sees and training did not). Losses: END, STEP, FEW.

Source: arXiv 2605.18797.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import Tensor

from abbie_lens.loops.lt import LT, unit_rms

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class FLT(LT):
    """Attention injection: every block's queries come from the state."""

    family: ClassVar[str] = "flt"
    reinjects: ClassVar[bool] = True
    unrolls: ClassVar[bool] = False

    def loop(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """B(x_0) with the injection of loop k; the first loop is plain."""
        inject = None if state.k == 0 else lambda b, x: self.inject(x, state.h)
        return model.body(state.carry["input"], state, inject)

    def inject(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """The stream a block reads and the stream that asks, both [batch, pos, d_model]."""
        return x, h


@dataclass(frozen=True)
class FLTRes(FLT):
    """Residual injection: the state is added to the stream before every block."""

    family: ClassVar[str] = "flt-res"

    def inject(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor | None]:
        """N(x + h), asked with itself."""
        return unit_rms(x + h), None
