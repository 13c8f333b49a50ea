"""PonderNet: the expected loss under a learned distribution of when to stop, held near a geometric one.

    h_0 = Head(E[x]),   h_{k+1} = B(h_k),   z_k = h_k,   lambda_k = sigmoid(w . N(h_k) + b)
    p_k = lambda_k prod_{j<k} (1 - lambda_j),   p_r = prod_{j<r} (1 - lambda_j)
    loss = sum_k p_k L_k + beta KL(p ‖ Geom(lambda_p)),   KL a mean over tokens

At test a token stops where F_k >= 1 - epsilon (the paper's truncation, epsilon = 0.05: the halting rule
`learned_gate` at threshold 0.95), or is drawn from p. Geom is cut at r as p is: its last iteration takes what is left.

Source: arXiv 2107.05407, read in summaries. A Body without injection, the norm N (the model's final one) before the
gate, and the value of lambda_p for language are our choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor

from abbie_lens.loops.base import Advance, require
from abbie_lens.loops.shared.gate import geometric, kl_divergence
from abbie_lens.loops.shared.hazard import HazardGate

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State


@dataclass(frozen=True)
class PonderNet(HazardGate):
    """AbbIE-C with a gate on its state."""

    family: ClassVar[str] = "pondernet"
    recipe: ClassVar[Mapping[str, Any]] = {"loss": "exit"}

    prior_rate: float = 0.2
    """lambda_p: the prior stops after 1 / lambda_p iterations on average, were there no last one."""
    prior_weight: float = 0.01
    """beta."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Four iterations at most in training."""
        return {"n_iters": 4}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        rate, weight = self.prior_rate, self.prior_weight
        require(0 < rate < 1, "prior_rate", rate, "between 0 and 1")
        require(weight >= 0, "prior_weight", weight, "a number >= 0")

    @property
    def label(self) -> str:
        """The family; its settings are of the training."""
        return self.family

    def entry_weights(self, n_iters: int) -> tuple[float, ...]:
        """All 1: the gate adds nothing to the stream."""
        return (1.0,) * (n_iters + 1)

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = B(h_k), and its gate."""
        h = model.body(state.h, state)
        return Advance(h, carry=self.with_gate(model, state, model.ln_final.plain(h)))

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """beta KL(p ‖ Geom), mean over all tokens; None where there is no choice of exits."""
        if self.prior_weight == 0 or state.k < 2:
            return None
        p = self.exit_probabilities(state)
        prior = geometric(state.k, self.prior_rate, p)[:, None, None]
        return self.prior_weight * kl_divergence(p, prior).mean()
