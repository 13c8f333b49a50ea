"""PonderLM: what the model predicts is fed back through the embeddings as a mixture of them.

    h_0 = m c E[x],  z_k = B(h_k),  h_{k+1} = h_k + softmax(logits(z_k)) c W_E,  c = sqrt(d),  m = 1

B is the whole stack. One iteration is one feedback update: n_iters = s updates take s + 1 passes, the first of
them in `begin`; so sites in the Body have r + 1 rows. With `top_k` only that many of the most probable tokens
are mixed, their probabilities renormalised. 0 updates are a plain transformer.

The published models scale the first input by the number of updates as well (`first_scale`): with m fixed at the
trained number a sweep over depths changes nothing but the depth; with m the planned number, as their code has it,
another depth begins from another h_0, and no update from 0.

Trained with all passes in the gradient. Source: arXiv 2505.20674; m is in the published code alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from abbie_lens.errors import InputError
from abbie_lens.hooks.points import Site
from abbie_lens.loops.base import (
    CONCEPT_SPACE,
    WHOLE_STACK,
    Advance,
    LoopFamily,
    Start,
    require,
    require_bare,
    scaled_embeddings,
)

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

FIRST_SCALES = ("one", "trained", "planned")


@dataclass(frozen=True)
class Ponder(LoopFamily):
    """The state is the input embedding plus everything fed back so far."""

    family: ClassVar[str] = "ponder"
    unrolls: ClassVar[bool] = False
    counts: ClassVar[str] = "feedback updates, each one more pass of the whole stack"

    top_k: int | None = None
    """Tokens mixed in a feedback; None mixes the whole vocabulary."""
    first_scale: str = "one"
    """m, factor on the first input: 1, the model's own n_iters (`trained`), or that of the run (`planned`)."""

    @classmethod
    def shape(cls, d_model: int) -> dict[str, Any]:
        """All blocks in the Body, two updates, embeddings times sqrt(d), weights of std sqrt(2 / 5d)."""
        return {**WHOLE_STACK, "n_iters": 2, **scaled_embeddings(d_model)}

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError for a Head or a Tail, a `top_k` outside the vocabulary, or an unknown `first_scale`."""
        require_bare(cfg, self.family)
        require(
            self.first_scale in FIRST_SCALES,
            "first_scale",
            self.first_scale,
            f"one of {FIRST_SCALES}",
        )
        require(
            self.top_k is None or 1 <= self.top_k <= cfg.d_vocab,
            "top_k",
            self.top_k,
            f"1 to d_vocab={cfg.d_vocab}, or null",
        )

    def parts(self, cfg: LoopedConfig) -> dict[str, nn.Module]:
        """`hook_feedback`, the mixture that leads from h_i to h_{i+1}."""
        return {"hook_feedback": Site()}

    def rows(self, site: str, n_iters: int) -> int:
        """The Body runs once more than there are updates."""
        passes = site in CONCEPT_SPACE or site.startswith("body.")
        return n_iters + 1 if passes else n_iters

    def begin(self, model: HookedLoopedTransformer, state: State, start: Start) -> Advance:
        """Pass 0."""
        h = self.first(model, state, start)
        return Advance(h, model.body(h, state))

    def first(self, model: HookedLoopedTransformer, state: State, start: Start) -> Tensor:
        """h_0 [batch, pos, d_model], the scaled embeddings."""
        m = {"one": 1, "trained": model.cfg.n_iters, "planned": state.n_iters}[self.first_scale]
        return start.embedded if m == 1 else m * start.embedded

    def step(self, model: HookedLoopedTransformer, state: State) -> Advance:
        """One feedback update and the pass that reads it."""
        h = state.h + model.loop.hook_feedback(mixture(model, state.z, self.top_k))
        return Advance(h, model.body(h, state.replace(k=state.k + 1)))

    def restart(self, model: HookedLoopedTransformer, state: State, h: Tensor) -> State:
        """h_k with the z_k = B(h_k) that the next feedback mixes. Errors: InputError for a State with a cache."""
        require_uncached(state)
        return state.replace(h=h, z=model.body(h, state))


def require_uncached(state: State) -> None:
    """Errors: InputError where running this iteration's pass once more would cache its keys twice."""
    if state.context.kv is not None:
        raise InputError(
            "restart: this State holds cached keys and values; begin it without `past`."
        )


def mixture(model: HookedLoopedTransformer, z: Tensor, top_k: int | None = None) -> Tensor:
    """softmax(logits(z)) c W_E: the embeddings mixed by what z predicts, [batch, pos, d_model]."""
    logits = model.unembed.plain(model.ln_final.plain(z))
    embeddings = model.embed.weight * model.embed.scale
    if top_k is None:
        return logits.softmax(-1).to(z.dtype) @ embeddings
    best = logits.topk(top_k, dim=-1)
    weights = best.values.softmax(-1).to(z.dtype)
    return (weights[..., None] * embeddings[best.indices]).sum(-2)
