"""AdaPonderLM: PonderLM whose tokens stop pondering by a gate of their own for every iteration.

    s^k = sigmoid(MLP_k(N(z_k))),   m^0 = 1,   m^{k+1} = m^k 1[s^k >= tau]
    h_{k+1} = h_k + m^{k+1} s^k softmax(logits(z_k)) c W_E
    K^k <- m^k K^k + (1 - m^k) K^{k-1}, V likewise, in training and at test

MLP_k: d -> 4d -> 1 with GELU. The mask is monotone: once 0, always 0. A halted token keeps its last read-out
(`freeze=True`), so nothing of it has to be computed again; others still attend to its last keys and values.
K passes are K - 1 updates: n_iters counts updates, and there are `max_iters` gates.

F_k = 1 - m^{k+1}: whether the gate of update k + 1 would stop the token after k, so F_0 may be 1. After the last gate,
where more are refused, no other is asked: F = 1 - m then.

Training adds lambda times the mean of the smallest share of all gate values (tokens x iterations) in the batch.
The share rises linearly from 0 to `gate_share` between `gate_ramp[0]` and `gate_ramp[1]` of the run: only the
smallest are pushed down, so the rest do not collapse.

Source: arXiv 2603.01914, read in summaries; that the gate reads the normed state, starts open, and that the
read-out freezes are our choices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.context import Reuse
from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import Advance, Start, require, require_iterations
from abbie_lens.loops.ponder import Ponder, mixture, require_uncached
from abbie_lens.loops.shared.gate import wide

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class AdaPonder(Ponder):
    """PonderLM with iteration-specific gates, a monotone mask, and keys and values of halted tokens reused."""

    family: ClassVar[str] = "adaponder"
    gate_parts: ClassVar[tuple[str, ...]] = ("gates",)

    max_iters: int = 2
    """Gates, one an update."""
    beyond: str = "refuse"
    """More updates than gates: `refuse`, or `repeat_last` gate."""
    threshold: float = 1e-4
    """tau."""
    gate_width: int = 4
    """Hidden width of a gate, in units of d_model."""
    gate_init: float = 0.9
    """Value of the gates before training: open, or they close on feedback that is noise at first and stay so."""
    freeze: bool = True
    """Whether a halted token keeps its read-out; otherwise it goes on reading the others."""
    gate_weight: float = 0.1
    """lambda."""
    gate_share: float = 0.1
    gate_ramp: tuple[float, float] = (0.2, 0.6)

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range, or more trained updates than gates."""
        super().check(cfg)
        require_iterations(cfg, self.max_iters, self.beyond)
        require(0 <= self.threshold <= 1, "threshold", self.threshold, "0 to 1")
        require(self.gate_width >= 1, "gate_width", self.gate_width, "an integer >= 1")
        require(0 < self.gate_init < 1, "gate_init", self.gate_init, "between 0 and 1")
        require(0 <= self.gate_share <= 1, "gate_share", self.gate_share, "0 to 1")
        ramp = self.gate_ramp
        require(0 <= ramp[0] <= ramp[1] <= 1, "gate_ramp", ramp, "two rising shares, 0 to 1")

    @property
    def label(self) -> str:
        """The family; its settings are of the training or stand beside it."""
        return self.family

    @property
    def max_depth(self) -> int | None:
        """As many updates as there are gates, where more are refused."""
        return self.max_iters if self.beyond == "refuse" else None

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`gates`, and sites for what they say: `hook_gate` s^i and `hook_mask` m^{i+1}, [batch, pos, 1]."""
        width = self.gate_width * cfg.d_model
        gates = nn.ModuleList(
            nn.Sequential(nn.Linear(cfg.d_model, width), nn.GELU(), nn.Linear(width, 1))
            for _ in range(self.max_iters)
        )
        for gate in gates:
            gate[-1].init_bias = math.log(self.gate_init / (1 - self.gate_init))  # type: ignore[index]
        sites = {"hook_gate": Site(), "hook_mask": Site()}
        return {**super().parts(cfg), **sites, "gates": gates}

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """Pass 0; every token is active."""
        active = torch.ones_like(state.tokens, dtype=torch.bool)
        h = self.first(model, state, start)
        z, served = self._pass(model, state, h, active)
        return Advance(h, z, {"active": active, "served": served, "gates": ()})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """Gate, feedback of the tokens still active, and the pass that reads it."""
        share = model.loop.hook_gate(self._gate(model, state))
        goes_on = state.carry["active"][..., None] & (share >= self.threshold)
        goes_on = model.loop.hook_mask(goes_on.to(share.dtype))
        fed_back = model.loop.hook_feedback(goes_on * share * mixture(model, state.z, self.top_k))
        h, active = state.h + fed_back.to(state.h.dtype), goes_on[..., 0] > 0
        later = state.replace(k=state.k + 1)
        z, served = self._pass(model, later, h, active)
        carry = {"active": active, "served": served, "gates": (*state.carry["gates"], share)}
        return Advance(h, z, carry)

    def _gate(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """s^k [batch, pos, 1] of z_k, by the gate of update k + 1."""
        gate = model.loop.gates[min(state.k, self.max_iters - 1)]
        return gate(model.ln_final.plain(state.z)).sigmoid()

    def exit_cdf(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """1 - m^{k+1}, 0 or 1; no site fires."""
        active = state.carry["active"]
        if self.max_depth is None or state.k < self.max_depth:
            active = active & (self._gate(model, state)[..., 0] >= self.threshold)
        return 1 - active.to(wide(state.z).dtype)

    def restart(self, model: HookedLoopedTransformer, state: State, h: Tensor) -> State:
        """h_k with the z_k, keys and values of the tokens still active; halted ones keep theirs.

        Errors: InputError for a State with a cache.
        """
        require_uncached(state)
        z, served = self._pass(model, state, h, state.carry["active"])
        return state.replace(h=h, z=z, carry={**state.carry, "served": served})

    def _pass(
        self, model: HookedLoopedTransformer, state: State, h: Tensor, active: Tensor
    ) -> tuple[Tensor, dict[int, tuple[Tensor, Tensor]]]:
        """z of the pass that reads h, and the keys and values that it served."""
        reuse = Reuse(active, state.carry.get("served", {}))
        z = model.body(h, state.replace(context=state.context.replace(reuse=reuse)))
        return z.where(active[..., None], state.z) if self.freeze else z, reuse.now

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """lambda times the mean of the smallest share of the gate values."""
        first, last = self.gate_ramp
        ramp = 1.0 if progress >= last else max(0.0, progress - first) / max(last - first, 1e-9)
        gates = state.carry["gates"]
        if not gates or ramp == 0:
            return None
        return self.gate_weight * bottom_mean(torch.cat(gates, dim=-1), ramp * self.gate_share)


def bottom_mean(values: Tensor, share: float) -> Tensor:
    """Mean of the smallest `share` of all values, of one value at least."""
    count = max(1, int(share * values.numel()))
    return values.flatten().topk(count, largest=False).values.mean()
