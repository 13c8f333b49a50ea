"""FPRM: a loop whose residuals are weighted so that old state and block outputs have total weight 1.

    inject     h <- a2 h + b2 x                 once an iteration, x the Head's output
    sublayer   h <- a1 h + b1 f(N h)            for each of the 2 L attentions and MLPs of the Body's L blocks
    update     h_{k+1} = eta h~ + (1 - eta) h_k,   z_k = h_k
    ties       b2 = 1 - a2 a1^{2L},   b1 = b2 (1 - a1) / (1 - a1^{2L}) = b2 / (1 + a1 + ... + a1^{2L-1})

a1, a2 = sigmoid of learned numbers, one for each channel; a1 starts high, a2 low. Over one pass the old state weighs
a2 a1^{2L} and the outputs of the sublayers sum_j b1 a1^j = b2, together 1; the injected x adds b2 a1^{2L}. The sites
`hook_attn_out` and `hook_mlp_out` are f, before its weight.

How near h is to a fixed point is the halting rule `fixed_point_residual`: max over tokens of its value at z = h is the
source's, times eta where the update is damped. Its solver, which lowers eta when nothing improves, is not here.
Trained in windows of iterations, a loss at the end of each and no gradient across (`recipe.window`).

Source: arXiv 2606.18206, read in a re-implementation; where h_0 starts, the initial values and the window are our choices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.loops.base import Advance, LoopFamily, Start, require

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

STARTS = ("input", "zeros")


class Weights(nn.Module):
    """a1 and a2, by their logits, and the b1 and b2 tied to them; each [d_model]."""

    def __init__(self, width: int, n_sublayers: int, alpha1: float, alpha2: float) -> None:
        super().__init__()
        self.n_sublayers = n_sublayers
        filled = lambda a: nn.Parameter(torch.full((width,), math.log(a / (1 - a))))  # noqa: E731
        self.alpha1, self.alpha2 = filled(alpha1), filled(alpha2)

    def forward(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a1, b1, a2, b2."""
        a1, a2 = self.alpha1.sigmoid(), self.alpha2.sigmoid()
        b2 = 1 - a2 * a1**self.n_sublayers
        # The sum, not the quotient: at a1 = 1, which half precision rounds to, that is 0 / 0.
        b1 = b2 / sum(a1**j for j in range(self.n_sublayers))
        return a1, b1, a2, b2


@dataclass(frozen=True)
class FPRM(LoopFamily):
    """The Body's residual stream forgets at a learned rate, and the input comes back in every iteration."""

    family: ClassVar[str] = "fprm"
    reinjects: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Any]] = {"window": 2}

    start: str = "input"
    """h_0: the Head's output (`input`) or zeros."""
    alpha1: float = 0.9
    """a1 at birth."""
    alpha2: float = 0.1
    """a2 at birth."""
    step_size: float = 1.0
    """eta, share of the new state in the update."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Two windows of iterations."""
        return {"n_iters": 4}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for an unknown start or weights out of range."""
        require(self.start in STARTS, "start", self.start, f"one of {STARTS}")
        for name in ("alpha1", "alpha2"):
            require(0 < getattr(self, name) < 1, name, getattr(self, name), "between 0 and 1")
        require(0 < self.step_size <= 1, "step_size", self.step_size, "above 0, at most 1")

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`weights`."""
        return {"weights": Weights(cfg.d_model, 2 * cfg.n_body_blocks, self.alpha1, self.alpha2)}

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The Head's output is kept as the input."""
        x = model.head(start.embedded, state)
        return Advance(x if self.start == "input" else torch.zeros_like(x), carry={"input": x})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One pass, damped."""
        a1, b1, a2, b2 = model.loop.weights()
        x = a2 * state.h + b2 * state.carry["input"]
        h = model.body(x, state, join=lambda stream, out: a1 * stream + b1 * out)
        if self.step_size != 1:
            h = self.step_size * h + (1 - self.step_size) * state.h
        return Advance(h, carry=state.carry)
