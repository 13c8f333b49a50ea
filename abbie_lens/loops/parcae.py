"""Parcae: the input enters through a linear filter of the state whose decay is below 1 for any weights.

    e = N_p(Head(E[x])),  h_0 ~ TruncN(0, 2/(5d), ±3 std),  u_k = a ⊙ h_k + Delta ⊙ (B e),  h_{k+1} = Body(u_k)
    a = exp(-Delta e^A),  Delta = softplus(dt),  A, dt: [d];   z_k = C h_k

N_p is a norm of the model's kind. At the start A = 0, B = I and dt is such that a = 1/sqrt(5). In exact arithmetic
0 < a < 1 whatever A and dt; where rounding reaches 0 or 1 (Delta e^A below about 1e-7 or above 87 in float32), a is held at
the nearest number inside, and no gradient passes there. That bounds the filter, not the loop: the Body may expand.
C is random at the start (not said in the source).

The preset is the published shape: un-gated squared ReLU, RMS-normed queries and keys, rotary pairs side by side, value
embeddings in every other block. The published MLP has a factor 1/2, which belongs into its output projection here.
Depth in training: every sequence has its own, max(1, Poisson(r)), of which the last 4 carry gradient.

Source: arXiv 2604.12946.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.components.norm import make_norm
from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import Advance, LoopFamily, Start, require, scaled_embeddings
from abbie_lens.loops.shared.initial import initial_state
from abbie_lens.loops.shared.reads import Reads

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

START_DECAY = 5**-0.5


@dataclass(frozen=True)
class Parcae(LoopFamily):
    """The Body reads a decayed state plus the injected input."""

    family: ClassVar[str] = "parcae"
    reinjects: ClassVar[bool] = True
    draws_state: ClassVar[bool] = True
    recipe: ClassVar[Mapping[str, Any]] = {"depth": "poisson_per_sequence", "backprop_depth": 4}

    input_norm: bool = True
    """Whether there is an N_p."""
    init_scale: float = 1.0
    """Factor on the drawn h_0; 0 starts from zeros."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """The published blocks in the published 2-2-2 stages, mean depth 8, weights of std sqrt(2 / 5d)."""
        return {
            **{f"n_{stage}_blocks": 2 for stage in ("head", "body", "tail")},
            "n_iters": 8,
            "act_fn": "relu2",
            "gated_mlp": False,
            "qk_norm": "after_rotary",
            "rotary_adjacent_pairs": True,
            "rotary_base": 50000.0,
            "value_embeddings": "alternate",
            "eps": 1e-5,
            "initializer_range": scaled_embeddings(d_model)["initializer_range"],
        }

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a negative scale."""
        require(self.init_scale >= 0, "init_scale", self.init_scale, "a number >= 0")

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`injection` (A, B, dt), `readout` C, `ln_input` N_p; sites `hook_decay` a and `hook_injected` Delta ⊙ (B e)."""
        parts = {
            "injection": Injection(cfg.d_model),
            "readout": nn.Linear(cfg.d_model, cfg.d_model, bias=False),
            "hook_decay": Site(),
            "hook_injected": Site(),
        }
        if self.input_norm:
            parts["ln_input"] = make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)
        return parts

    def rows(self, site: str, n_iters: int) -> int:
        """The input is normed once."""
        return 1 if site.startswith("loop.ln_input.") else super().rows(site, n_iters)

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """What is injected is the same in every iteration; h_0 is drawn."""
        e = model.head(start.embedded, state)
        if self.input_norm:
            e = model.loop.ln_input(e)
        std = self.init_scale * (2 / (5 * e.shape[-1])) ** 0.5
        h = initial_state(model, state, start, e, std)
        return Advance(h, model.loop.readout(h), {"injected": model.loop.injection(e)})

    def read_back(self, model: HookedLoopedTransformer, n_iters: int, read: Tensor) -> Reads:
        """Through C, and once more through the filter for every iteration that comes after."""
        read = read @ model.loop.readout.weight.detach().to(read)
        decay = model.loop.injection.decay(model.dtype).detach().to(read)
        reads = [read]
        for _ in range(n_iters):
            reads.append(reads[-1] * decay)
        later = tuple(reversed(reads[:-1]))  # F_i and e_i enter h_{i+1} unfiltered
        return Reads(reads[-1], later, later, lambda state: state.carry["injected"])

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} = Body(a ⊙ h_k + Delta ⊙ (B e))."""
        decay = model.loop.injection.decay(state.h.dtype).expand_as(state.h)
        injected = model.loop.hook_injected(state.carry["injected"])
        h = model.body(model.loop.hook_decay(decay) * state.h + injected, state)
        return Advance(h, model.loop.readout(h), state.carry)


class Injection(nn.Module):
    """e [batch, pos, d_model] -> Delta ⊙ (B e), and the decay of what it is added to."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(d_model))
        self.dt_bias = nn.Parameter(torch.empty(d_model))
        # Delta = -ln a while A = 0, and softplus(x) = y where x = ln(e^y - 1).
        self.init_bias = math.log(1 / START_DECAY - 1)
        self.B = nn.Linear(d_model, d_model, bias=False)
        self.B.init_identity = True  # type: ignore[assignment]

    def forward(self, e: Tensor) -> Tensor:
        return F.softplus(self.dt_bias) * self.B(e)

    def decay(self, dtype: torch.dtype) -> Tensor:
        """a [d_model] in `dtype`, strictly between 0 and 1."""
        wide = torch.promote_types(self.A_log.dtype, torch.float32)
        # Above 80 e^A would be infinite, and infinity times a Delta of 0 no number.
        rate = F.softplus(self.dt_bias.to(wide)) * self.A_log.to(wide).clamp(max=80).exp()
        about = torch.finfo(dtype)
        return (-rate).exp().clamp(about.tiny, 1 - about.eps / 2).to(dtype)
