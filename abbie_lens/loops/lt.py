"""Looped Transformer and its two injection variants: the whole stack B looped, N = RMSNorm without weights.

    x_0 = N(E[x]),  h_0 = x_0,  h_1 = N(B(x_0)),  and for later loops

    lt      h_{k+1} = N(B(h_k))
    lt-i    h_{k+1} = N(B(N(E[x] + h_k)))
    lt-ia   h_{k+1} = N(B(x_0)), the first block's queries taken from h_k: Q = W_Q N(h_k)

z_k = h_k, logits = c tanh(W_U N_f(h) / c) with c = 15. N_f, the model's final norm, and those of its blocks have weights,
which the source's do not: normalization_type="RMSPre" takes them away. Losses: END takes the last loop's, STEP every loop's,
FEW those of loops 2K//3 ... K-1; lt-i and lt-ia are trained on the last.

Source: arXiv 2605.18797.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

from abbie_lens.loops.base import WHOLE_STACK, Advance, LoopFamily, Start, require_bare

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class LT(LoopFamily):
    """The stack's normed output is its next input."""

    family: ClassVar[str] = "lt"
    recipe: ClassVar[Mapping[str, Any]] = {"loss": "end"}

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, three loops, capped logits."""
        return {**WHOLE_STACK, "n_iters": 3, "output_logits_soft_cap": 15.0}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail."""
        require_bare(cfg, self.family)

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """h_0 = x_0 = N(E[x]); both E[x] and x_0 are kept for the variants."""
        x0 = unit_rms(start.embedded)
        return Advance(x0, carry={"embedded": start.embedded, "input": x0})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One loop over the stack."""
        return Advance(unit_rms(self.loop(model, state)), carry=state.carry)

    def loop(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """The stack's output [batch, pos, d_model], before N."""
        return model.body(state.h, state)


@dataclass(frozen=True)
class LTi(LT):
    """The raw embedding is added to the state before every loop but the first."""

    family: ClassVar[str] = "lt-i"
    reinjects: ClassVar[bool] = True

    def loop(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """B(N(E + h_k)); the first loop reads x_0."""
        x = state.h if state.k == 0 else unit_rms(state.carry["embedded"] + state.h)
        return model.body(x, state)


@dataclass(frozen=True)
class LTia(LT):
    """Every loop restarts at x_0; the state asks through the first block's queries."""

    family: ClassVar[str] = "lt-ia"
    reinjects: ClassVar[bool] = True
    unrolls: ClassVar[bool] = False

    def loop(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """B(x_0) with Q = W_Q N(h_k) in block 0; the first loop is plain."""
        ask = lambda b, x: (x, state.h if b == 0 and state.k > 0 else None)  # noqa: E731
        return model.body(state.carry["input"], state, ask)


def unit_rms(x: Tensor) -> Tensor:
    """N: RMSNorm without weights over the last axis."""
    return F.rms_norm(x, x.shape[-1:])
