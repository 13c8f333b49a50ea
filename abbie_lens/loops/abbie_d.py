"""AbbIE-D, the diffusion-inspired loop: a residual connection between consecutive iterations.

    h_{k+1} = B(h_k) + h_k

With pre-norm blocks B(h) = h + F(h), so h_{k+1} = 2 h_k + F(h_k): norms double, directions converge.
The source leaves open what the Tail reads; `residual` chooses (ARCHITECTURES 1.2):

* `between` (default): z_{k+1} = B(h_k), the residual joins iterations only; r = 1 is a plain transformer.
* `literal`: z_k = h_k, so the Tail also reads the residual; same states, another read-out.
* `skip_first`: h_1 = B(h_0), the residual starts with the second iteration; z_k = h_k; r = 1 is plain.

Source: arXiv 2507.08567.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from abbie_lens.loops.base import Advance, LoopFamily, require
from abbie_lens.loops.shared.reads import between, doubled

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

RESIDUALS = ("between", "skip_first", "literal")


def doubling(cfg: LoopedConfig) -> float:
    """Growth of B(h) + h: 2 where blocks add to the stream; 1 where they norm it, which leaves a sum of normed vectors."""
    return 1.0 if getattr(cfg, "norm_placement", "pre") == "sandwich_stream" else 2.0


@dataclass(frozen=True)
class AbbieD(LoopFamily):
    """The Body's output plus its input is the next state."""

    family: ClassVar[str] = "abbie-d"
    residual: str = "between"

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for an unknown residual."""
        require(self.residual in RESIDUALS, "residual", self.residual, f"one of {RESIDUALS}")

    @property
    def label(self) -> str:
        """The family and its residual, which the source leaves open."""
        return f"{self.family} ({self.residual})"

    def entry_weights(self, n_iters: int) -> tuple[float, ...]:
        """What is there before a carry is doubled by it: all 1 for r <= 1, of `literal` for r = 0 alone."""
        if self.residual == "literal":
            return doubled(n_iters)
        if self.residual == "between" or not n_iters:
            return between(n_iters)
        first, *later = doubled(n_iters - 1)  # h_1 = h_0 + F_0 is what doubles
        return (first, first, *later)

    def growth(self, cfg: LoopedConfig) -> float:
        """What AbbIE-D's carry multiplies the state by."""
        return doubling(cfg)

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = B(h_k) + h_k, read out as `residual` says."""
        out = model.body(state.h, state)
        if self.residual == "between":
            return Advance(out + state.h, z=out)
        if self.residual == "skip_first" and state.k == 0:
            return Advance(out)
        return Advance(out + state.h)
