"""AbbIE-C, the continuous chain of thought: `h_{k+1} = B(h_k)`, `z_k = h_k`.

B is the whole Body with its own residual stream, so h_{k+1} = h_k + F(h_k).
Source: arXiv 2507.08567.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from abbie_lens.loops.base import Advance, LoopFamily

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class AbbieC(LoopFamily):
    """The Body's output is the next state."""

    family: ClassVar[str] = "abbie-c"

    def entry_weights(self, n_iters: int) -> tuple[float, ...]:
        """All 1: the Body's residual stream simply goes on."""
        return (1.0,) * (n_iters + 1)

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = B(h_k)."""
        return Advance(model.body(state.h, state))
