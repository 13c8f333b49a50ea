"""HRM-Text: two stacks, nested: a low one runs several times for every time of the high one.

    z_H = c E[x],  z_L = z_init,  and in every outer cycle
    L_cycles times   z_L <- N(L(z_L + z_H)),   then   z_H <- N(H(z_H + z_L))

N: RMSNorm without weights. L is the first `n_low_blocks` of the Body's blocks, H the others. n_iters counts outer
cycles: h_k = z_H after k of them, and the Tail's place reads z_k = H(z_H + z_L) before N, which the model's final norm
is; with normalization_type="RMSPre", as published, logits = W_U z_H exactly. z_L is carried, z_init frozen, zeros at
birth. The tokens come in through the first z_H alone.

`loop.hook_low_state` and the sites of L's blocks have the rows k L_cycles + l, l = 0 ... L_cycles - 1 the inner cycle of
outer cycle k; those of H's blocks have the rows k.

In training the last inner cycles alone carry gradient, `backprop_cycles` of every outer cycle of the planned r, the list
filled up from the left with 1; so does a Jacobian taken then. In eval mode all carry it.

Source: HrmText of transformers 5.23 for all of this. Prompt tokens that attend both ways are the model's `prefix_lm`. How z_0 = h_0 would be read out is not said there (our choice: as every other z_k).
"""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import WHOLE_STACK, Advance, LoopFamily, Start, require, require_bare

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

LOW_STATE = "loop.hook_low_state"


class InitialLow(nn.Module):
    """z_init [d_model], stored with the weights and never trained."""

    weight: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(width))


@dataclass(frozen=True)
class HRM(LoopFamily):
    """The state is the high stack's; the low stack's is carried beside it."""

    family: ClassVar[str] = "hrm"
    unrolls: ClassVar[bool] = False
    counts: ClassVar[str] = "outer cycles: the low stack a fixed number of times, then the high one"

    low_cycles: int = 3
    """L_cycles, times that the low stack runs in an outer cycle."""
    n_low_blocks: int | None = None
    """Blocks of L; half of the Body's if None."""
    backprop_cycles: tuple[int, ...] = (2,)
    """Inner cycles that carry gradient in training, of the last outer cycles; 1 of those before them."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, gated attention, norms without weights, own unembedding, embeddings of unit size."""
        return {
            **WHOLE_STACK,
            "normalization_type": "RMSPre",
            "attention_gate": True,
            "tie_word_embeddings": False,
            "embed_scale": 50.0,
        }

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail, a stack without blocks, or cycles out of range."""
        require_bare(cfg, self.family)
        require(self.low_cycles >= 1, "low_cycles", self.low_cycles, "an integer >= 1")
        require(
            1 <= (self.n_low_blocks or 0) < cfg.n_body_blocks,
            "n_low_blocks",
            self.n_low_blocks,
            f"1 to {cfg.n_body_blocks - 1}, so that both stacks have some of n_body_blocks={cfg.n_body_blocks}",
        )
        require(
            all(0 <= n <= self.low_cycles for n in self.backprop_cycles),
            "backprop_cycles",
            self.backprop_cycles,
            f"each 0 to low_cycles={self.low_cycles}",
        )

    def fitted(self, cfg: LoopedConfig) -> HRM:
        """With half of the Body's blocks for L where nothing else was said."""
        if self.n_low_blocks is not None:
            return self
        return dataclasses.replace(self, n_low_blocks=cfg.n_body_blocks // 2)

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`low_init` z_init, and `hook_low_state` z_L after each inner cycle."""
        return {"low_init": InitialLow(cfg.d_model), "hook_low_state": Site()}

    def rows(self, site: str, n_iters: int) -> int:
        """Sites of the low stack have a row for every inner cycle."""
        stage, _, rest = site.partition(".")
        low = stage == "body" and int(rest.partition(".")[0]) < (self.n_low_blocks or 0)
        if low or site == LOW_STATE:
            return n_iters * self.low_cycles
        return super().rows(site, n_iters)

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """z_H is the embedding, z_L the stored vector."""
        low = model.loop.low_init.weight.to(start.embedded.dtype).expand_as(start.embedded)
        return Advance(start.embedded, carry={"low": low})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One outer cycle."""
        n_low, eps = self.n_low_blocks or 0, model.cfg.eps
        unit = lambda x: F.rms_norm(x, x.shape[-1:], eps=eps)  # noqa: E731
        low = state.carry["low"]
        first = self.low_cycles - self._with_gradient(state) if model.training else 0
        for cycle in range(self.low_cycles):
            inner = state.replace(k=state.k * self.low_cycles + cycle)
            with torch.no_grad() if cycle < first else nullcontext():
                low = unit(model.body(low + state.h, inner, blocks=range(n_low)))
                low = model.loop.hook_low_state(low)
        z = model.body(state.h + low, state, blocks=range(n_low, len(model.body)))
        return Advance(unit(z), z, {"low": low})

    def _with_gradient(self, state: State) -> int:
        """Inner cycles of this outer cycle that carry gradient."""
        unlisted = state.n_iters - len(self.backprop_cycles)
        counts = (*(1,) * max(unlisted, 0), *self.backprop_cycles)
        return counts[state.k] if state.k < len(counts) else 1
