"""0pt: recurrent depth with concat-and-project injection, as AbbIE compares itself to it.

    e = Head(E[x]),  h_0 ~ s TruncN(0, 2/5, ±3 std),  h_{k+1} = N(B(A [h_k; e])),  z_k = h_k

A: 2d -> d without bias; N is the model's final norm, which reads out once more after the Tail. The input
comes back in every iteration, so the state may forget where it began. With `norm="readout"` the carried
state is not normed: h_{k+1} = B(A [h_k; e]), z_k = N(h_k); with `norm="none"` neither is, z_k = h_k.

Trained at depth 2. Source: arXiv 2502.05171 for the injection, 2507.08567 for the baseline; where the norm
after the core stands is not said there, hence the setting.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.loops.base import Advance, LoopFamily, Start, require, scaled_embeddings
from abbie_lens.loops.shared.initial import initial_state
from abbie_lens.loops.shared.reads import Reads

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

NORMS = ("carried", "readout", "none")


@dataclass(frozen=True)
class ZeroPt(LoopFamily):
    """The Body reads a projection of the state beside the Head's output."""

    family: ClassVar[str] = "0pt"
    reinjects: ClassVar[bool] = True
    draws_state: ClassVar[bool] = True

    norm: str = "carried"
    """The norm after the core is part of the state (`carried`), of its read-out (`readout`), or there is `none`."""
    init_scale: float = 1.0
    """s, factor on the drawn h_0; 0 starts from zeros."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """Embeddings times sqrt(d) and weights of std sqrt(2 / 5d), as published."""
        return scaled_embeddings(d_model)

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for an unknown norm or a negative scale."""
        require(self.norm in NORMS, "norm", self.norm, f"one of {NORMS}")
        require(self.init_scale >= 0, "init_scale", self.init_scale, "a number >= 0")

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`adapter`, A."""
        adapter = nn.Linear(2 * cfg.d_model, cfg.d_model, bias=False)
        adapter.init_std = scaled_embeddings(cfg.d_model)["initializer_range"]
        return {"adapter": adapter}

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """The Head's output is kept as the input; h_0 is drawn."""
        e = model.head(start.embedded, state)
        h = initial_state(model, state, start, e, self.init_scale * (2 / 5) ** 0.5)
        return Advance(h, self._readout(model, h), {"input": e})

    def read_back(self, model: HookedLoopedTransformer, n_iters: int, read: Tensor) -> Reads | None:
        """Through A for every iteration that comes after; None where the state or its read-out is normed."""
        if self.norm != "none":
            return None
        of_state, of_input = model.loop.adapter.weight.detach().to(read).chunk(2, dim=1)
        updates, injected = [], []
        for _ in range(n_iters):
            updates.append(read)
            injected.append(read @ of_input)
            read = read @ of_state
        first, then = tuple(reversed(updates)), tuple(reversed(injected))
        return Reads(read, first, then, lambda state: state.carry["input"])

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """h_{k+1} from A [h_k; e]."""
        injected = model.loop.adapter(torch.cat([state.h, state.carry["input"]], dim=-1))
        h = model.body(injected, state)
        if self.norm == "carried":
            h = model.ln_final.plain(h)
        return Advance(h, self._readout(model, h), state.carry)

    def _readout(self, model: HookedLoopedTransformer, h: Tensor) -> Tensor | None:
        return model.ln_final.plain(h) if self.norm == "readout" else None
