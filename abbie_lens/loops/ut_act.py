"""Universal Transformer with adaptive computation time: a token reads out the mean of its states until it halts.

    s_0 = E[x],   s_{k+1} = B(s_k + P(position) + P(k + 1)),   g_k = sigmoid(w . s_k + b) for k >= 1
    N = min{n : sum_{k<=n} g_k >= 1 - epsilon},   p_k = g_k for k < N,   p_N = R = 1 - sum_{k<N} g_k,   p_k = 0 beyond
    h_k = s_k,   z_k = sum_{n<k} p_n s_n + (1 - sum_{n<k} p_n) s_k

P(t), channels 2j and 2j + 1: sin and cos of t / 10000^{2j/d}. z_k weighs s_k with all that is left, so it is what a run
planned to end at k reads out, and stays what it is once the token has halted; z_0 = s_0. A halted token hands its state
on unchanged (`freeze`), others go on attending to it. F_k = sum_{n<=k} g_n, and 1 from N on. Training adds
tau (N + R), mean over tokens, with N at most the planned depth.

Row i of `loop.hook_gate` is g_{i+1}, read at what iteration i made, before a hook on h_{i+1} acts.

Source: arXiv 1807.03819 and 1603.08983, read in summaries. Norms on the stream (in place of theirs after each sublayer)
and a gate that starts nearly shut, so that all iterations learn first, are our choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import (
    WHOLE_STACK,
    Advance,
    LoopFamily,
    Start,
    require,
    require_bare,
    scaled_embeddings,
)
from abbie_lens.loops.shared.gate import wide

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class UTACT(LoopFamily):
    """The read-out is the mean state under the halting probabilities."""

    family: ClassVar[str] = "ut-act"
    unrolls: ClassVar[bool] = False
    gate_parts: ClassVar[tuple[str, ...]] = ("gate",)

    epsilon: float = 0.01
    """A token halts when no more than this is left."""
    ponder_weight: float = 0.01
    """tau."""
    freeze: bool = True
    """Whether a halted token hands its state on unchanged; otherwise others see it go on."""
    gate_init: float = 0.1
    """Value of the gate before training."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, four iterations, norms on the stream, no positions but the loop's own."""
        own = {"positional_embedding_type": "none", "norm_placement": "sandwich_stream"}
        return {**WHOLE_STACK, "n_iters": 4, **scaled_embeddings(d_model), **own}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail, an odd width, or settings out of range."""
        require_bare(cfg, self.family)
        require(cfg.d_model % 2 == 0, "d_model", cfg.d_model, "an even number: sin and cos in turn")
        require(0 <= self.epsilon < 1, "epsilon", self.epsilon, "0 to less than 1")
        require(self.ponder_weight >= 0, "ponder_weight", self.ponder_weight, "a number >= 0")
        require(0 < self.gate_init < 1, "gate_init", self.gate_init, "between 0 and 1")

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`gate`, w and b, and its site `hook_gate`, g [batch, pos, 1]."""
        gate = nn.Linear(cfg.d_model, 1)
        gate.init_bias = math.log(self.gate_init / (1 - self.gate_init))  # type: ignore[assignment]
        return {"gate": gate, "hook_gate": Site()}

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """s_0; nothing is weighed yet."""
        s = start.embedded
        nothing = torch.zeros_like(wide(s[..., 0]))
        return Advance(s, carry={"cdf": (nothing,), "mean": torch.zeros_like(s)})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """s_{k+1} of the tokens still going on, its gate, and the mean with it in."""
        cdf, s = state.carry["cdf"], state.h
        before = cdf[-2] if len(cdf) > 1 else cdf[-1]
        mean = state.carry["mean"] + (cdf[-1] - before)[..., None].to(s.dtype) * s
        positions = state.context.positions
        signal = sinusoids(positions, s) + sinusoids(torch.full_like(positions, state.k + 1), s)
        new = model.body(s + signal, state)
        if self.freeze:
            new = new.where((cdf[-1] < 1)[..., None], s)
        gate = model.loop.hook_gate(model.loop.gate(new).sigmoid())
        left = (1 - cdf[-1])[..., None].to(s.dtype)
        carry = {"cdf": (*cdf, self._add(cdf[-1], gate)), "mean": mean}
        return Advance(new, mean + left * new, carry)

    def restart(self, model: HookedLoopedTransformer, state: State, h: Tensor) -> State:
        """s_k with its own gate and its own share in z_k."""
        cdf, mean = state.carry["cdf"], state.carry["mean"]
        if state.k == 0:
            return state.replace(h=h, z=h)
        left = (1 - cdf[-2])[..., None].to(h.dtype)
        own = self._add(cdf[-2], model.loop.gate(h).sigmoid())
        carry = {"cdf": (*cdf[:-1], own), "mean": mean}
        return state.replace(h=h, z=mean + left * h, carry=carry)

    def exit_cdf(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """F_k."""
        return state.carry["cdf"][-1]

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """tau (N + R), mean over all tokens; None before the first iteration."""
        if self.ponder_weight == 0 or state.k < 1:
            return None
        return self.ponder_weight * ponder_cost(torch.stack(state.carry["cdf"])).mean()

    def _add(self, cdf: Tensor, gate: Tensor) -> Tensor:
        """F_{k+1} of F_k [batch, pos] and g_{k+1} [batch, pos, 1]."""
        # NaN is no halt: a diverged state has no F.
        total = torch.where(cdf >= 1, 1.0, cdf + wide(gate[..., 0]))
        return torch.where(total >= 1 - self.epsilon, 1.0, total)


def ponder_cost(cdf: Tensor) -> Tensor:
    """[r + 1, ...] F_0 … F_r -> [...] N + R. Only R has a gradient."""
    going_on = cdf[:-1] < 1
    n = going_on.sum(0)
    return n + 1 - cdf[:-1].gather(0, (n - 1)[None])[0]


def sinusoids(t: Tensor, like: Tensor) -> Tensor:
    """P(t) [..., d_model] of numbers t [...], in the dtype and on the device of `like` [..., d_model]."""
    width = like.shape[-1]
    frequency = 10000.0 ** (-torch.arange(0, width, 2, device=like.device) / width)
    angle = t[..., None].float() * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).to(like.dtype)
