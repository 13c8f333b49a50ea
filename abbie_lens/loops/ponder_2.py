"""PonderLM-2: after every token a latent thought, the hidden state at that token, from which the next one is predicted.

    x_1 t_1 x_2 t_2 ...: x_i = c E[x_i], t_i = N(B(...) at x_i); the prediction of x_{i+1} is read at t_i

B is the whole stack, N the final norm (`thought="raw"`: without it), c = sqrt(2.5 d). A token and its thought share the
position. Token i sees x_{<=i} and t_{<i}, thought i sees x_{<=i} and t_{<=i}. One after the other the thoughts cost two
passes a token; here all are found at once by Jacobi iteration of the map from thoughts to hidden states:

    h_0 = c E[x],   h_1 = N(B(h_0)),                z_1 = B(h_0)                       tokens alone
                    h_{k+1} = N(B(x|h_k) at x),     z_{k+1} = B(x|h_k) at h_k          interleaved

h_k are the thoughts that pass k reads. Thought i is exact after i passes, the fixed point is the sequential model.
n_iters counts passes: 1 is a plain transformer, 2 read thoughts of the plain pass, r refine them r - 2 times. Sites in
the Body have n positions in row 0 and 2n in the others; keys are cached for every pass.

Trained with 2 to 4 refinements, drawn uniformly, all passes in the gradient. Source: arXiv 2509.23184 and its code, one
thought a token. That the thought is the normed state, and that learned positions are added to it, are our choices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from abbie_lens.components.positions import rotary_table
from abbie_lens.context import Context, allowed
from abbie_lens.loops.base import (
    WHOLE_STACK,
    Advance,
    LoopFamily,
    Start,
    require,
    require_bare,
    require_no_value_embeddings,
)

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

THOUGHTS = ("normed", "raw")


@dataclass(frozen=True)
class Ponder2(LoopFamily):
    """The state is one thought a token, refined in parallel."""

    family: ClassVar[str] = "ponder-2"
    reinjects: ClassVar[bool] = True
    unrolls: ClassVar[bool] = False
    packs: ClassVar[bool] = False
    counts: ClassVar[str] = "passes of the whole stack, the first over the tokens alone"
    recipe: ClassVar[Mapping[str, Any]] = {"depth": "uniform", "depth_spread": 1}

    thought: str = "normed"
    """The hidden state after the final norm (`normed`), or before it (`raw`)."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, three refinements, embeddings times sqrt(2.5 d) of std sqrt(2 / 5d): of unit variance."""
        scale = {
            "embed_scale": (2.5 * d_model) ** 0.5,
            "initializer_range": (2.5 * d_model) ** -0.5,
        }
        return {**WHOLE_STACK, "n_iters": 5, **scale}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail, another kind of thought, or value embeddings."""
        require_bare(cfg, self.family)
        require_no_value_embeddings(cfg, "a thought is no token")
        require(self.thought in THOUGHTS, "thought", self.thought, f"one of {THOUGHTS}")

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """No thoughts yet: the embedded tokens."""
        return Advance(start.embedded, carry={"input": start.embedded})

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One pass: what the thoughts say now, and what they would be next."""
        if state.k == 0:
            at_tokens = at_thoughts = model.body(state.h, state)
        else:
            h = state.h
            if model.pos_embed is not None:
                h = h + model.pos_embed.weight[state.context.positions]
            pairs = torch.stack([state.carry["input"], h], dim=2).flatten(1, 2)
            out = model.body(pairs, state.replace(context=_doubled(model.cfg, state)))
            at_tokens, at_thoughts = out.unflatten(1, (-1, 2)).unbind(2)
        h = model.ln_final.plain(at_tokens) if self.thought == "normed" else at_tokens
        return Advance(h, at_thoughts, state.carry)


def _doubled(cfg: LoopedConfig, state: State) -> Context:
    """The context in which every token is followed by its thought, at the same position."""
    context, n_new = state.context, state.h.shape[1]
    n_past = 0 if context.mask is None else context.mask.shape[-1] - n_new
    positions = context.positions.repeat_interleave(2, dim=1)
    real = state.attention_mask
    if real is not None:
        real = real.repeat_interleave(2, dim=1)
    return context.replace(
        positions=positions,
        mask=allowed(real, 2 * n_past, 2 * n_new, positions.device),
        rotary=rotary_table(cfg, positions, state.h.dtype),
    )
