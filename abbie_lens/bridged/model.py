"""LoopedBridge: a plain pretrained decoder, bridged by TransformerLens, with a window of its blocks in a loop.

    model = LoopedBridge(hf_model, Loop(start=8, stop=12, rule="damped"), tokenizer)
    logits, cache = model.run_with_cache("Hello", n_iters=4)
    cache["body.0.attn.hook_pattern@2"], cache["blocks.8.attn.hook_pattern@2"]      # the same

The blocks are the bridge's, run in our loop; embedding, masks, rotations and read-out are the model's own code.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, NoReturn, Self

import torch
from torch import Tensor

from abbie_lens.bridged.conductor import Conductor
from abbie_lens.bridged.config import describe
from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.names import canonical
from abbie_lens.bridged.source import bridge as bridge_of
from abbie_lens.bridged.stage import BridgedContext, Stage
from abbie_lens.bridged.unembed import BridgedUnembed
from abbie_lens.context import KVCache, position_ids
from abbie_lens.errors import InputError
from abbie_lens.hooks.address import Address
from abbie_lens.hooks.cache import IterationCache
from abbie_lens.hooks.points import Clock, Site
from abbie_lens.info import ModelInfo
from abbie_lens.lock import RunLock
from abbie_lens.loops import Advance
from abbie_lens.model import HookedLoopedTransformer, LoopParts
from abbie_lens.state import State

NO_CACHE = "a bridged model keeps no keys and values between tokens yet"


class LoopedBridge(HookedLoopedTransformer):
    """Everything a HookedLoopedTransformer offers but saving and cached generation."""

    cfg: Any
    name: str
    bridge: Any
    """The TransformerBridge that is driven."""

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
            "head": Stage(blocks[: loop.start], 0, self.clock),
            "body": Stage(blocks[loop.start : loop.stop], loop.start, self.clock),
            "tail": Stage(blocks[loop.stop :], loop.stop, self.clock),
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
        self.conductor = Conductor(bridge)
        self._rehearse()

    def setup(self) -> None:
        """Make a site of every hook point of the bridge, under its canonical name."""
        points, self.aliases = canonical(self.bridge.hook_dict, self.window.start, self.window.stop)
        points |= {
            f"loop.{name}": getattr(self.loop, name) for name in ("hook_state", "hook_readout")
        }
        self.hook_dict, self.mod_dict, self.asked = {}, {}, []
        for name, point in points.items():
            site = self.hook_dict[name] = self.mod_dict[name] = Site.of(point)
            site.name, site.clock = name, self.clock
            site.looped = name.startswith(("body.", "loop."))
        self.other_names: dict[str, list[str]] = {name: [name] for name in points}
        for other, name in self.aliases.items():
            self.other_names[name].append(other)

    def _rehearse(self) -> None:
        """Errors: InputError where one iteration is not the plain model to rounding."""
        tokens = torch.zeros(1, min(4, self.cfg.n_ctx), dtype=torch.long, device=self.device)
        plain = self.conductor.rehearse(tokens)
        with torch.no_grad():
            looped = self(tokens, n_iters=1)
        off = (looped - plain).abs().max() / plain.abs().max().clamp_min(1e-6)
        if bool(off > 100 * torch.finfo(self.dtype).eps):
            raise InputError(
                f"model: one pass through the blocks of {self.cfg.architecture} is off by {float(off):.1e} of its largest "
                "logit: they hand on more than the stream, and cannot be looped."
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

        `attention_mask` [batch, pos] marks padding with 0. Errors: InputError; `initial_state`, `seed`, `past` and
        `token_type_ids` are refused.
        """
        if token_type_ids is not None:
            raise InputError(
                "token_type_ids: a bridged model has no prefix that attends both ways."
            )
        if initial_state is not None or seed is not None:
            raise InputError("initial_state, seed: a bridged model draws no initial state.")
        if past:
            raise InputError(f"past: {NO_CACHE}.")
        tokens, attention_mask = self.as_tokens(tokens, attention_mask)
        if attention_mask is not None and attention_mask.shape != tokens.shape:
            raise InputError(
                f"attention_mask: shape {tuple(attention_mask.shape)}; expected {tuple(tokens.shape)}."
            )
        n_iters = self.depth(n_iters)
        with self.lock:
            self.check_asked(n_iters)
            self.clock.n_iters, self.clock.iteration = n_iters, 0
            h, calls = self.conductor.enter(tokens, attention_mask, self.window.start)
            positions = position_ids(attention_mask, 0, tokens.shape[1], tokens.device)
            context = BridgedContext(positions, None, None, calls=calls)
            state = State(tokens, attention_mask, n_iters, 0, h, h, context)
            return self._advance(state, Advance(h), k=0)

    def _readout(self, state: State) -> tuple[Tensor, State]:
        logits = self.conductor.read(state.z, state.tokens, state.attention_mask, self.window.stop)
        return logits, state

    def decode(
        self, z: Tensor, attention_mask: Tensor | None = None, tokens: Tensor | None = None
    ) -> Tensor:
        """The Tail, the final norm and all that follows it, of any z [..., batch, pos, d_model], in one pass.

        Returns logits [..., batch, pos, d_vocab]; `attention_mask` and `tokens` [batch, pos].
        """
        flat = z.reshape(-1, *z.shape[-2:])
        if tokens is None:  # positions and masks are made for as many, whichever they are
            tokens = torch.zeros(z.shape[-3:-1], dtype=torch.long, device=z.device)
        tokens = tokens.repeat(flat.shape[0] // tokens.shape[0], 1)
        if attention_mask is not None:
            attention_mask = attention_mask.repeat(flat.shape[0] // attention_mask.shape[0], 1)
        with self.lock:
            logits = self.conductor.read(flat, tokens, attention_mask, self.window.stop)
        return logits.view(*z.shape[:-1], -1)

    # -- sites under all their names ---------------------------------------------------------------------

    def _own(self, text: str) -> str:
        """An address with the site's canonical name in it."""
        name, at, rows = text.partition("@")
        return self.aliases.get(name, name) + at + rows

    def address(self, text: str) -> Address:
        """The address in `text`, which may be TransformerLens' name. Errors: SiteError."""
        return super().address(self._own(text))

    def _addresses(self, name: str | Callable[[str], bool]) -> list[Address]:
        return super()._addresses(self._own(name) if isinstance(name, str) else self._any(name))

    def _any(self, wanted: Callable[..., Any]) -> Callable[[str], bool]:
        """The same question of a canonical name, answered yes if any name of that site is wanted."""
        return lambda site: any(map(wanted, self.other_names[site]))

    def _addressed(self, address: Address, fn: Callable[..., Any]) -> Callable[..., Any]:
        inner = super()._addressed(address, fn)

        def unless_silent(tensor: Tensor, hook: Site) -> Any:
            # a read-out runs the model's forward, and with it the embedding, once more
            return None if self.conductor.silent else inner(tensor, hook=hook)

        return unless_silent

    def run_with_cache(
        self, input: Any, *, names_filter: Any = None, **kwargs: Any
    ) -> tuple[Any, IterationCache]:
        """As for our own models; names may be TransformerLens' too, in the filter and of the cache."""
        if isinstance(names_filter, str):
            names_filter = self._own(names_filter)
        elif callable(names_filter):
            names_filter = self._any(names_filter)
        elif names_filter is not None:
            names_filter = [self._own(name) for name in names_filter]
        output, cache = super().run_with_cache(input, names_filter=names_filter, **kwargs)
        cache.aliases = self.aliases
        return output, cache

    # -- what is refused, and identity -------------------------------------------------------------------

    def generate(
        self, prompt: Any, max_new_tokens: int = 32, *, use_kv_cache: bool = False, **settings: Any
    ) -> Any:
        """As for our own models, every token from the whole text anew. Errors: InputError for `use_kv_cache`."""
        if use_kv_cache:
            raise InputError(f"use_kv_cache=True: {NO_CACHE}; leave it out.")
        return super().generate(prompt, max_new_tokens, use_kv_cache=False, **settings)

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
