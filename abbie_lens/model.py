"""HookedLoopedTransformer: embed, Head blocks, a loop over the Body blocks, Tail blocks, final norm, unembedding.

    state  = model.begin(tokens, n_iters=r)   # Head
    state  = model.step(state)                # one iteration
    logits = model.readout(state)             # Tail + unembedding of z_k

`model(tokens, n_iters=r)` is exactly begin, r steps, readout.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from abbie_lens.asked import AskedMixin
from abbie_lens.components.embed import Embed, PosEmbed, Unembed
from abbie_lens.components.initialise import initialise
from abbie_lens.components.norm import make_norm
from abbie_lens.components.stack import Stack
from abbie_lens.components.value_embed import ValueEmbedding
from abbie_lens.config import LoopedConfig
from abbie_lens.context import Context, KVCache, make_context
from abbie_lens.decoding import DecodingMixin
from abbie_lens.errors import InputError
from abbie_lens.files.pretrained import PretrainedMixin
from abbie_lens.generation import GenerationMixin
from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.halting.run import halted
from abbie_lens.hooks.access import AddressedRootModule
from abbie_lens.hooks.points import Clock, Site
from abbie_lens.identity import IdentityMixin
from abbie_lens.lock import RunLock
from abbie_lens.loops import Advance, Start
from abbie_lens.losses import RETURN_TYPES, returned
from abbie_lens.overflow import warn_of_overflow
from abbie_lens.state import State
from abbie_lens.text import TextMixin


class LoopParts(nn.Module):
    """The loop's own sites and, for families that have them, its learned parts."""

    def __init__(self, parts: dict[str, nn.Module]) -> None:
        super().__init__()
        self.hook_state, self.hook_readout = Site(), Site()
        for name, part in parts.items():
            self.add_module(name, part)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """A part by its name; which there are, only the family knows."""


class HookedLoopedTransformer(
    AskedMixin,
    DecodingMixin,
    GenerationMixin,
    IdentityMixin,
    TextMixin,
    PretrainedMixin,
    AddressedRootModule,
):
    """A looped transformer in which every activation has an iteration axis."""

    packs: ClassVar[bool] = True
    """Whether its blocks take the packed rows of a run whose tokens halt."""

    def __init__(self, cfg: LoopedConfig, tokenizer: Any = None) -> None:
        super().__init__()
        self.cfg, self.tokenizer = cfg, tokenizer
        self.name = cfg.model_name
        self.lock, self.clock = RunLock(), Clock()
        self.embed = Embed(cfg.d_vocab, cfg.d_model, cfg.embed_scale)
        self.pos_embed = (
            PosEmbed(cfg.n_ctx, cfg.d_model)
            if cfg.positional_embedding_type == "standard"
            else None
        )
        self.head = Stack(cfg, "head", cfg.n_head_blocks, self.clock)
        self.body = Stack(cfg, "body", cfg.n_body_blocks, self.clock)
        self.tail = Stack(cfg, "tail", cfg.n_tail_blocks, self.clock)
        blocks: list[Any] = [*self.head, *self.body, *self.tail]
        for b in cfg.value_embedding_blocks:
            blocks[b].attn.value_embed = ValueEmbedding(cfg)
        self.loop = LoopParts(cfg.loop.parts(cfg))
        self.ln_final = make_norm(cfg.normalization_type, cfg.d_model, cfg.eps)
        own = nn.Parameter(torch.empty(0 if cfg.tie_word_embeddings else cfg.d_vocab, cfg.d_model))
        self.unembed = Unembed(
            self.embed.weight if cfg.tie_word_embeddings else own, cfg.output_logits_soft_cap
        )
        initialise(self, cfg)
        self.to(cfg.torch_dtype)
        self.setup()

    # -- the three moves ---------------------------------------------------------------------------------

    def begin(
        self,
        tokens: Any,
        n_iters: int | None = None,
        *,
        attention_mask: Tensor | None = None,
        initial_state: Tensor | None = None,
        seed: int | None = None,
        past: KVCache | None = None,
        token_type_ids: Tensor | None = None,
    ) -> State:
        """The Head's work: tokens [batch, pos] or text -> State with h_0 and z_0; fixes the planned depth.

        `attention_mask` [batch, past + pos] marks padding (left or right) with 0. `past` holds keys and values
        of earlier tokens; an empty dict starts a cache. `initial_state` [batch, pos, d_model] and `seed` are for
        families that draw h_0. `token_type_ids` [batch, pos] marks with 1 a prefix that attends both ways, in a
        model with `prefix_lm`. Errors: InputError; DepthError for a depth that the loop refuses.
        """
        tokens, attention_mask, n_iters = self.checked(
            tokens, attention_mask, n_iters, initial_state, seed
        )
        with self.lock:
            self.check_asked(n_iters)
            context = make_context(
                self.cfg, tokens, attention_mask, past, self.dtype, n_iters, token_type_ids
            )
            return self.enter(tokens, attention_mask, n_iters, context, initial_state, seed)

    def step(self, state: State) -> State:
        """One iteration: State after k iterations -> State after k + 1. Errors: DepthError beyond the loop's last."""
        with self.lock:
            self.clock.n_iters = state.n_iters
            return self._step(state)

    def readout(self, state: State) -> Tensor:
        """Tail, final norm and unembedding of z_k: logits [batch, pos, d_vocab], after any number of steps."""
        with self.lock:
            return self._readout(state)[0]

    def forward(
        self,
        input: Any,
        n_iters: int | None = None,
        *,
        return_type: str | None = "logits",
        attention_mask: Tensor | None = None,
        initial_state: Tensor | None = None,
        seed: int | None = None,
        token_type_ids: Tensor | None = None,
        loss_per_token: bool = False,
        halting: HaltingPolicy | str | None = None,
        kv: str = "reuse",
    ) -> Any:
        """begin, `n_iters` steps, readout of tokens [batch, pos] or text; with `halting` at most that many, per token.

        Halted tokens are computed no further and serve keys and values as `kv` says (`halting.run.halted`, which also
        gives the exits); no gradient passes. Returns logits [batch, pos, d_vocab]; with `return_type="loss"` the mean next-token NLL in nats (or
        [batch, pos - 1] with `loss_per_token`); with "both" the pair; with None nothing.
        """
        if return_type not in RETURN_TYPES:
            raise InputError(f"return_type={return_type!r}: expected one of {RETURN_TYPES}.")
        with self.lock:
            if halting is not None:
                tokens, mask = self.as_tokens(input, attention_mask)
                run = halted(
                    *(self, tokens, n_iters, halting, kv),
                    attention_mask=mask,
                    initial_state=initial_state,
                    seed=seed,
                    token_type_ids=token_type_ids,
                )
                return returned(return_type, run.logits, tokens, mask, loss_per_token)
            state = self.begin(
                input,
                n_iters,
                attention_mask=attention_mask,
                initial_state=initial_state,
                seed=seed,
                token_type_ids=token_type_ids,
            )
            for _ in range(state.n_iters):
                state = self._step(state)
            if return_type is None:
                return None
            logits = self._readout(state)[0]
        return returned(return_type, logits, state.tokens, state.attention_mask, loss_per_token)

    # -- the stages they are made of ---------------------------------------------------------------------

    def enter(
        self,
        tokens: Tensor,
        attention_mask: Tensor | None,
        n_iters: int,
        context: Context,
        initial_state: Tensor | None = None,
        seed: int | None = None,
    ) -> State:
        """What `begin` does with checked tokens [batch, pos] and their context."""
        self.clock.n_iters, self.clock.iteration = n_iters, 0
        x = self.embed(tokens)
        if self.pos_embed is not None:
            x = x + self.pos_embed(context.positions)
        state = State(tokens, attention_mask, n_iters, 0, x, x, context)
        start = Start(x, initial_state, seed)
        return self._advance(state, self.cfg.loop.begin(self, state, start), k=0)

    def _step(self, state: State, moving: Tensor | None = None) -> State:
        """One iteration; tokens that are not `moving` [batch, pos] are computed, and stay as they are."""
        self.clock.n_iters, self.clock.iteration = state.n_iters, state.k
        self.cfg.loop.check_depth(state.k + 1)
        state = state.replace(context=state.context.private())
        to = self.cfg.loop.step(self, state)
        if moving is not None:
            to = to.where(moving, state)
        after = self._advance(state, to, k=state.k + 1)
        if not self.training:
            warn_of_overflow(self.cfg.loop.family, self.cfg.loop.growth(self.cfg), state.h, after)
        return after

    def _readout(self, state: State) -> tuple[Tensor, State]:
        state = state.replace(context=state.context.private())
        return self.unembed(self.ln_final(self.tail(state.z, state))), state

    def _advance(self, state: State, to: Advance, k: int) -> State:
        """The one place where the concept-space sites fire."""
        self.clock.iteration = k
        h = self.loop.hook_state(to.h)
        z = self.loop.hook_readout(h if to.z is None else to.z)
        return state.replace(k=k, h=h, z=z, carry=to.carry)

    def run_cached(
        self,
        tokens: Tensor,
        past: KVCache | None,
        n_iters: int | None = None,
        attention_mask: Tensor | None = None,
    ) -> tuple[Tensor, KVCache | None]:
        """Logits of new tokens [batch, pos] after those in `past`, and the cache that now holds them too.

        `attention_mask` [batch, past + pos] marks padding with 0.
        """
        with self.lock:
            state = self.begin(tokens, n_iters, past=past, attention_mask=attention_mask)
            for _ in range(state.n_iters):
                state = self._step(state)
            logits, state = self._readout(state)
        return logits, state.context.kv
