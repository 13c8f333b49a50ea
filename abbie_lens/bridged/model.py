"""LoopedBridge: a plain pretrained decoder, bridged by TransformerLens, with a window of its blocks in a loop.

    model = LoopedBridge(hf_model, Loop(start=8, stop=12, rule="damped"), tokenizer)
    logits, cache = model.run_with_cache("Hello", n_iters=4)
    cache["body.0.attn.hook_pattern@2"], cache["blocks.8.attn.hook_pattern@2"]      # the same

The blocks are the bridge's, run in our loop; embedding, masks, rotations and read-out are the model's own code.
"""

from __future__ import annotations

import copy
from functools import cached_property
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from abbie_lens.bridged.conductor import Conductor
from abbie_lens.bridged.config import describe
from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.run_cache import RunCache
from abbie_lens.bridged.sites import BridgedSites
from abbie_lens.bridged.source import bridge as bridge_of
from abbie_lens.bridged.source import first_line
from abbie_lens.bridged.stage import BridgedContext, Stage
from abbie_lens.bridged.unembed import BridgedUnembed
from abbie_lens.context import KVCache, length_of, position_ids, remembering
from abbie_lens.errors import InputError
from abbie_lens.hooks.points import Clock, Site
from abbie_lens.info import ModelInfo
from abbie_lens.lock import RunLock
from abbie_lens.loops import Advance
from abbie_lens.model import HookedLoopedTransformer, LoopParts
from abbie_lens.state import State


class LoopedBridge(BridgedSites):
    """Everything a HookedLoopedTransformer offers but saving."""

    cfg: Any
    name: str
    bridge: Any
    """The TransformerBridge that is driven."""
    window: Loop
    """Which of its blocks are the Body, and by which rule."""

    def __init__(self, model: Any, loop: Loop, tokenizer: Any = None, name: str = "") -> None:
        """`model`: a causal language model of transformers, changed in place, or its TransformerBridge.

        Errors: ConfigError for a window that does not fit; InputError for a model that cannot be bridged or looped.
        """
        super(HookedLoopedTransformer, self).__init__()  # none of its parts: they are the bridge's
        bridge = bridge_of(model, name)
        loop.fit(len(bridge.blocks))
        if any(isinstance(point, Site) for point in bridge.hook_dict.values()):
            raise InputError("model: this bridge is looped already; bridge a fresh model.")
        self.source = bridge.original_model.eval()
        self.window = loop
        self.tokenizer = bridge.tokenizer if tokenizer is None else tokenizer
        self.lock, self.clock = RunLock(), Clock()
        blocks = list(bridge.blocks)
        # Beside the registered modules, not among them: all of these are parts of `source`.
        self.__dict__ |= {
            "bridge": bridge,
            "embed": bridge.embed,
            "ln_final": bridge.ln_final,
            "head": Stage("head", blocks[: loop.start], 0, self.clock),
            "body": Stage("body", blocks[loop.start : loop.stop], loop.start, self.clock),
            "tail": Stage("tail", blocks[loop.stop :], loop.stop, self.clock),
        }
        self.name = name or bridge.cfg.model_name or type(self.source).__name__
        self.cfg = describe(bridge, loop, self.dtype, self.name)
        if self.tokenizer is not None and len(self.tokenizer) > self.cfg.d_vocab:
            raise InputError(
                f"tokenizer: has {len(self.tokenizer)} tokens, the model's vocabulary {self.cfg.d_vocab}."
            )
        self.__dict__["unembed"] = BridgedUnembed(bridge.unembed, self.cfg.output_logits_soft_cap)
        self.loop = LoopParts({})
        self.setup()
        self.eval()
        self.conductor = Conductor(bridge)
        self._caches = False
        self._rehearse()

    def _rehearse(self) -> None:
        """Errors: InputError where tokens see later ones, or one iteration is not the plain model to rounding."""
        tokens = torch.zeros(2, min(4, self.cfg.n_ctx), dtype=torch.long, device=self.device)
        tokens[1, -1] = self.cfg.d_vocab - 1
        plain = self.conductor.rehearse(tokens)
        earlier = plain[:, :-1].float()
        seen = (earlier[0] - earlier[1]).abs().sum() / earlier.abs().sum().clamp_min(1e-6)
        if bool(seen > 10 * torch.finfo(self.dtype).eps):
            raise InputError(
                f"model: tokens of {self.cfg.architecture} see later ones; only causal decoders are looped."
            )
        with torch.no_grad():
            looped = self(tokens, n_iters=1)
        off = (looped - plain).abs().max() / plain.abs().max().clamp_min(1e-6)
        if bool(off > 100 * torch.finfo(self.dtype).eps):
            raise InputError(
                f"model: one pass through the blocks of {self.cfg.architecture} is off by {float(off):.1e} of its largest "
                "logit: they hand on more than the stream, and cannot be looped."
            )

    def _rehearse_cache(self) -> None:
        """Errors: InputError where tokens one after the other, with keys and values cached, are not the same tokens at once."""
        tokens = torch.arange(min(4, self.cfg.n_ctx), device=self.device)[None] % self.cfg.d_vocab
        self._caches = self.conductor.muted = True  # or the runs below would begin here again
        try:
            with torch.no_grad():
                whole = logits = self(tokens, n_iters=2)[:, -1:]
                past: KVCache | None = {}
                for token in tokens.T:
                    logits, past = self.run_cached(token[None], past, 2)
            off = float((logits - whole).abs().max() / whole.abs().max().clamp_min(1e-6))
            wrong = off > 100 * torch.finfo(self.dtype).eps and f"is off by {off:.1e}"
        except Exception as error:  # each model's code raises what it likes
            wrong = f"fails ({first_line(error)})"
        finally:
            self.conductor.muted = False
        if wrong:
            self._caches = False
            raise InputError(
                f"past: with keys and values cached, {self.cfg.architecture} {wrong}; use use_kv_cache=False."
            )

    # -- the three moves ---------------------------------------------------------------------------------

    def begin(  # pyright: ignore[reportIncompatibleMethodOverride]
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
        """The Head's work: tokens [batch, pos] or text -> State with h_0 = z_0, what enters block `start`.

        `attention_mask` [batch, past + pos] marks padding with 0. `past` holds keys and values of earlier tokens; an
        empty dict starts a cache. Errors: InputError; `initial_state`, `seed` and `token_type_ids` are refused.
        """
        if token_type_ids is not None:
            raise InputError(
                "token_type_ids: a bridged model has no prefix that attends both ways."
            )
        if initial_state is not None or seed is not None:
            raise InputError("initial_state, seed: a bridged model draws no initial state.")
        tokens, attention_mask = self.as_tokens(tokens, attention_mask)
        n_iters = self.depth(n_iters)
        n_past = length_of(past, n_iters, tokens, attention_mask, self.cfg.n_ctx)
        with self.lock:
            if past is not None and not self._caches:
                self._rehearse_cache()
            if not self.conductor.muted:
                self.check_asked(n_iters)
            self.clock.n_iters, self.clock.iteration = n_iters, 0
            positions = position_ids(attention_mask, n_past, tokens.shape[1], tokens.device)
            kv = remembering(past, n_iters, positions)
            served = None if kv is None else RunCache(n_past)
            h, calls = self.conductor.enter(tokens, attention_mask, self.window.start, served, kv)
            context = BridgedContext(positions, None, None, kv, calls=calls, served=served)
            state = State(tokens, attention_mask, n_iters, 0, h, h, context)
            return self._advance(state, Advance(h), k=0)

    def _readout(self, state: State) -> tuple[Tensor, State]:
        context = state.context.private()
        assert isinstance(context, BridgedContext)
        logits = self.conductor.read(
            *(state.z, state.tokens, state.attention_mask, self.window.stop),
            *(context.served, context.kv, state.k),
        )
        return logits, state.replace(context=context)

    def decode(
        self, z: Tensor, attention_mask: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """The Tail, the final norm and all that follows it, of any z [..., batch, pos, d_model], in one pass.

        Returns logits [..., batch, pos, d_vocab]; `attention_mask` and `tokens` [batch, pos].
        """
        with self.lock:
            logits = self.conductor.read(*self._flat(z, attention_mask, tokens), self.window.stop)
        return logits.view(*z.shape[:-1], -1)

    def tail_output(
        self, z: Tensor, attention_mask: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """What the final norm reads of any z, [..., batch, pos, d_model]: `decode` up to the last block."""
        with self.lock:
            x = self.conductor.tail(*self._flat(z, attention_mask, tokens), self.window.stop)
        return x.view(z.shape)

    def _flat(
        self, z: Tensor, attention_mask: Tensor | None, tokens: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """z with its leading axes as one batch, and tokens and mask repeated for it."""
        flat = z.reshape(-1, *z.shape[-2:])
        if tokens is None:  # positions and masks are made for as many, whichever they are
            tokens = torch.zeros(z.shape[-3:-1], dtype=torch.long, device=z.device)
        tokens = tokens.repeat(flat.shape[0] // tokens.shape[0], 1)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat(flat.shape[0] // attention_mask.shape[0], 1)
        return flat, tokens, attention_mask

    @cached_property
    def logit_factor(self) -> float:
        """What this model multiplies its logits by besides final norm, unembedding and soft cap (Cohere, Granite).

        Measured on four tokens. Errors: InputError for a read-out that does something else.
        """
        tokens = torch.arange(min(4, self.cfg.n_ctx), device=self.device)[None] % self.cfg.d_vocab
        with self.lock, torch.no_grad():
            self.conductor.muted = True
            try:
                z = self.begin(tokens, 0).z
                logits = self.conductor.read(z, tokens, None, self.window.stop).cpu().double()
                normed = self.ln_final(self.conductor.tail(z, tokens, None, self.window.stop))
                plain = self.unembed.plain(normed).cpu().double()
            finally:
                self.conductor.muted = False
        factor = float((logits * plain).sum() / plain.square().sum())
        off = float((logits - factor * plain).abs().max() / logits.abs().max().clamp_min(1e-6))
        if off > 100 * torch.finfo(self.dtype).eps:
            raise InputError(
                f"model: the read-out of {self.cfg.architecture} is no multiple of its final norm and unembedding (off by"
                f" {off:.1e}); lenses need one that is."
            )
        return 1.0 if abs(factor - 1) < 1e-6 else factor

    # -- what is refused, and identity -------------------------------------------------------------------

    def save_pretrained(self, *_: Any, **__: Any) -> NoReturn:
        """Refused: the weights are the source's. Errors: InputError."""
        raise InputError(
            "save_pretrained: a bridged model's weights are its source's, unchanged; keep that and the Loop."
        )

    def info(self) -> ModelInfo:
        """Who this model is; the window is part of it, for the same weights loop at any."""
        from abbie_lens.files.hashing import weight_hash

        window = f"blocks {self.window.start}:{self.window.stop} of {self.cfg.architecture}"
        return ModelInfo(
            self.name,
            f"{self.cfg.loop.label}, {window}",
            weight_hash(self.source),
            self.bridge.n_params_total,
            self.cfg.n_iters,
            str(self.dtype).removeprefix("torch."),
            self.cfg.loop.counts,
        )

    def randomized(self, seed: int = 0) -> Self:
        """The random-initialisation control: the source's own class and config, fresh weights, the same loop."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh: Any = type(self.source)(copy.deepcopy(self.source.config))
        return type(self)(
            fresh.to(device=self.device, dtype=self.dtype),
            self.window,
            self.tokenizer,
            f"{self.name} (random initialisation)",
        )
