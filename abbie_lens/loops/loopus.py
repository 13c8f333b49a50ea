"""LoopUS: a learned gate mixes the Body's output into the state, channel by channel, and a head says when to stop.

    b = B(h_k),  a = exp(-softplus(W_dt W_in (b - h_k) + bias) e^A),  h_{k+1} = a b + (1 - a) h_k
    q_{k+1} = sigmoid(Linear(LayerNorm(h_{k+1}))),  F_k = 1 - prod_{j <= k} (1 - q_j)

a weighs the new value, channel by channel: near 1 it takes b, near 0 it keeps h_k. W_in: d -> R and W_dt: R -> d, R =
ceil(d / 16). z_k = h_k; nothing stands between iterations and the Head's output does not come back.

The original stops at q > tau of the last position, or at F > tau (`cdf`): q is `loop.hook_gate`, F is `exit_cdf`, both
per token. It reads q of the new state when it decodes, but trained the head on the ungated change b - h_k; `confidence`
says which of the two, in training and decoding alike. Supervised are 5 random iterations of 20.

Source: arXiv 2605.11011 and its code. Our choices: what the head learns, which our sources leave open (cross-entropy of
q_k with "the read-out of z_k gets the next token right" at every supervised iteration, no gradient to the state), the
gates' start, and a preset of 8 iterations, as the original is evaluated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import Advance, LoopFamily, Start, require

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

CONFIDENCES = ("state", "change")


class UpdateGate(nn.Module):
    """a [batch, pos, d_model] of the change b - h; `init` is its value before training."""

    def __init__(self, width: int, rank: int, init: float) -> None:
        super().__init__()
        self.dt_in = nn.Linear(width, rank, bias=False)
        self.dt_out = nn.Linear(rank, width)
        self.dt_out.init_bias = math.log(math.expm1(-math.log(init)))  # type: ignore[assignment]
        self.A_log = nn.Parameter(torch.zeros(width))

    def forward(self, change: Tensor) -> Tensor:
        return (-F.softplus(self.dt_out(self.dt_in(change))) * self.A_log.exp()).exp()


@dataclass(frozen=True)
class LoopUS(LoopFamily):
    """A gated state with a learned confidence."""

    family: ClassVar[str] = "loopus"
    recipe: ClassVar[dict[str, Any]] = {"loss": "random", "n_supervised": 5}
    gate_parts: ClassVar[tuple[str, ...]] = ("confidence",)

    dt_rank: int | None = None
    """R; ceil(d / 16) if None."""
    update_init: float = 0.9
    """a before training: nearly the plain repetition of the Body."""
    confidence: str = "state"
    """What the head reads: the new `state`, or the ungated `change` b - h_k."""
    gate_weight: float = 0.1
    """Weight of the head's loss."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Eight iterations."""
        return {"n_iters": 8}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(self.dt_rank is None or self.dt_rank >= 1, "dt_rank", self.dt_rank, "at least 1")
        require(0 < self.update_init < 1, "update_init", self.update_init, "between 0 and 1")
        require(
            self.confidence in CONFIDENCES, "confidence", self.confidence, f"one of {CONFIDENCES}"
        )
        require(self.gate_weight >= 0, "gate_weight", self.gate_weight, "a number >= 0")

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`update_gate` and `confidence`; sites `hook_update_gate` a [batch, pos, d_model], `hook_gate` q [batch, pos, 1]."""
        width = cfg.d_model
        rank = self.dt_rank or math.ceil(width / 16)
        return {
            "update_gate": UpdateGate(width, rank, self.update_init),
            "confidence": nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 1)),
            "hook_update_gate": Site(),
            "hook_gate": Site(),
        }

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The Head's output; no token has stopped."""
        h = model.head(start.embedded, state)
        goes_on = torch.ones(h.shape[:2], dtype=torch.float32, device=h.device)
        return Advance(h, carry={"goes_on": goes_on, "graded": ()})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """The gated update, then what the head says of it."""
        change = model.body(state.h, state) - state.h
        a = model.loop.hook_update_gate(model.loop.update_gate(change))
        h = state.h + a * change
        read = h if self.confidence == "state" else change
        asked = model.loop.confidence(read.detach() if model.training else read)
        q = model.loop.hook_gate(asked.sigmoid())[..., 0]
        goes_on = state.carry["goes_on"] * (1 - q.float())
        return Advance(h, carry={**state.carry, "goes_on": goes_on, "asked": asked[..., 0]})

    def exit_cdf(self, model: HookedLoopedTransformer, state: State) -> Tensor:
        """F_k = 1 - prod (1 - q_j)."""
        return 1 - state.carry["goes_on"]

    def graded(self, state: State, logits: Tensor, counted: Tensor | None) -> State:
        """Keeps the cross-entropy of q_k with whether the most probable token is the next one."""
        if state.k == 0:
            return state
        right = logits[:, :-1].argmax(-1) == state.tokens[:, 1:]
        asked = state.carry["asked"][:, :-1].float()
        loss = F.binary_cross_entropy_with_logits(asked, right.float(), reduction="none")
        asks = torch.ones_like(loss) if counted is None else counted[:, 1:].to(loss)
        loss = (loss * asks).sum() / asks.sum().clamp_min(1)
        return state.replace(carry={**state.carry, "graded": (*state.carry["graded"], loss)})

    def penalty(self, state: State, progress: float) -> Tensor | None:
        """The head's loss, mean over the supervised iterations."""
        graded = state.carry["graded"]
        return self.gate_weight * torch.stack(graded).mean() if graded else None
