"""A gate of one linear map: lambda_k, the probability that a token that has come as far as h_k stops there.

    lambda_k = sigmoid(w . N(h_k) + b),   F_k = 1 - prod_{j <= k} (1 - lambda_j),   F_0 = 0

N: the model's final norm. Row i of `loop.hook_gate` is lambda_{i+1}, read at what iteration i made, before a
hook on h_{i+1} acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import LoopFamily
from abbie_lens.loops.shared.gate import cdf_of_hazards, exit_distribution, wide

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class HazardGate(LoopFamily):
    """Base of families whose gate decides nothing while the loop runs: exits are read off afterwards."""

    gate_parts: ClassVar[tuple[str, ...]] = ("gate",)

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`gate`, w and b, and its site `hook_gate`, lambda [batch, pos, 1]."""
        return {"gate": nn.Linear(cfg.d_model, 1), "hook_gate": Site()}

    def with_gate(
        self, model: HookedLoopedTransformer, state: State, normed: Tensor
    ) -> Mapping[str, Any]:
        """The carry with the gate of this iteration, which read `normed` N(h_{k+1}) [batch, pos, d_model]."""
        gate = model.loop.hook_gate(model.loop.gate(normed).sigmoid())
        return {**state.carry, "gates": (*state.carry.get("gates", ()), gate)}

    def exit_cdf(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """F_k from the gates of all iterations so far."""
        return self._cdf(state)[-1]

    def exit_probabilities(self, state: State) -> Tensor:
        """[k + 1, batch, pos] p_0 … p_k of a run that ends at `state`."""
        return exit_distribution(self._cdf(state))

    def _cdf(self, state: State) -> Tensor:
        gates = state.carry.get("gates", ())
        if not gates:
            return torch.zeros_like(wide(state.h[None, ..., 0]))
        return cdf_of_hazards([gate[..., 0] for gate in gates])
