"""Ouro: the whole stack is looped behind the final norm, and a gate says after which loop a token may exit.

    h_0 = E[x],   z_{k+1} = B(h_k),   h_{k+1} = N(z_{k+1}),   logits_k = W_U N(z_k)
    lambda_k = sigmoid(w . h_k + b),   p_k = lambda_k prod_{j<k} (1 - lambda_j),   p_r = prod_{j<r} (1 - lambda_j)
    block: x <- x + n2(attn(n1 x)),  x <- x + n4(mlp(n3 x))

N is the model's final norm: it is in the loop, and the read-out applies it to z once. z_0 is the embedding, which
no published read-out reads: p_0 = 0. Exit at the first k with F_k >= q is the halting rule `learned_gate`.

Stage I of training: sum_k p_k L_k - beta H(p), beta falling over the run. Stage II (recipe `stage="gate"`, all else
frozen): I_k = max(0, L_{k-1} - L_k), w_k = sigmoid(s (I_k - m)), cross entropy of going on, 1 - lambda_k, with w_k,
k = 2 … r. The mean over these k and over all positions (of the entropy: the last too, which predicts nothing) and the
linear fall of beta are our choices. Published models are untied.

Source: arXiv 2510.25741, gate and loop in its public format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from abbie_lens.loops.base import WHOLE_STACK, Advance, Start, require, require_bare
from abbie_lens.loops.shared.gate import entropy, wide
from abbie_lens.loops.shared.hazard import HazardGate

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

SMALLEST = 1e-7
"""Of a probability whose logarithm is trained."""


@dataclass(frozen=True)
class Ouro(HazardGate):
    """The normed state is carried, the one before the norm is read out."""

    family: ClassVar[str] = "ouro"
    recipe: ClassVar[Mapping[str, Any]] = {"loss": "exit"}

    entropy_weight: tuple[float, float] = (0.1, 0.05)
    """beta at the beginning and at the end of training."""
    gate_slope: float = 50.0
    """s of stage II, per nat."""
    gate_margin: float = 0.005
    """m of stage II, nats that one more loop has to gain."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, four loops, norms on what the blocks add."""
        return {**WHOLE_STACK, "n_iters": 4, "norm_placement": "sandwich_branch"}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail, or settings out of range."""
        require_bare(cfg, self.family)
        betas = self.entropy_weight
        require(min(betas) >= 0, "entropy_weight", betas, "two numbers >= 0")
        require(self.gate_slope > 0, "gate_slope", self.gate_slope, "a number > 0")
        require(self.gate_margin >= 0, "gate_margin", self.gate_margin, "a number >= 0")

    @property
    def label(self) -> str:
        """The family; its settings are of the training."""
        return self.family

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The embedding, not normed."""
        return Advance(start.embedded)

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One loop, its norm, and the gate that reads the normed state."""
        z = model.body(state.h, state)
        h = model.ln_final.plain(z)
        return Advance(h, z, self.with_gate(model, state, h))

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """-beta H(p), mean over all tokens; None where there is no choice of exits."""
        first, last = self.entropy_weight
        beta = first + (last - first) * progress
        if beta == 0 or state.k < 2:
            return None
        return -beta * entropy(self.exit_probabilities(state)).mean()

    def gate_loss(self, state: State, nll: Tensor) -> Tensor:
        """Cross entropy of going on with what going on gained, mean over counted tokens and k = 2 … r; 0 for r < 2."""
        gates = wide(torch.stack(state.carry["gates"]))[:, :, :-1, 0]
        gained = (nll[1:-1] - nll[2:]).clamp_min(0)
        wanted = (self.gate_slope * (gained - self.gate_margin)).sigmoid()
        stop = gates[1:].clamp(SMALLEST, 1 - SMALLEST)
        loss = -(wanted * (1 - stop).log() + (1 - wanted) * stop.log())
        # A sum of zeros rather than no loss: every drawn depth must have a gradient.
        counted = ~loss.isnan()
        return loss.where(counted, 0.0).sum() / counted.sum().clamp_min(1) + 0 * gates.sum()
