"""Conductor: runs a bridged model's own forward, deciding block by block what is played.

The forward of a decoder embeds the tokens, makes masks and rotations, calls its blocks in order and reads the last one's
output. All but the blocks is left to the model's own code, which is why any decoder will do. A block that is not played
hands on what it was given, and fires no site; what it was called with, the mask and rotation of its kind, is kept.

    enter   play the Head, note what enters the Body and how each later block is called, stop at the last
    read    play nothing before the Tail, put z in front of it, let the model finish
    tail    the same, and stop after the last block
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from abbie_lens.bridged.run_cache import RunCache
from abbie_lens.context import KVCache
from abbie_lens.errors import InputError

Plan = Callable[[int, Tensor, "Call"], tuple[bool, Tensor]]
"""(block, stream before it, its other arguments) -> whether to play it, and the stream it reads or hands on."""


class _Enough(Exception):
    """The rest of the forward is not needed."""


@dataclass(frozen=True)
class Call:
    """What a block is called with besides the stream."""

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    by_name: bool
    """Whether the stream is passed as `hidden_states=`."""

    def __call__(self, block: Callable[..., Any], x: Tensor) -> Any:
        """The block's own output for the stream x [batch, pos, d_model]."""
        if self.by_name:
            return block(*self.args, **{**self.kwargs, "hidden_states": x})
        return block(x, *self.args, **self.kwargs)

    @property
    def caches(self) -> bool:
        """Whether a key/value cache is among the arguments."""
        return any(hasattr(v, "get_seq_length") for v in (*self.args, *self.kwargs.values()))


def stream(output: Any) -> Any:
    """The residual stream in a block's output, which may be a tuple that begins with it."""
    return output[0] if isinstance(output, tuple) else output


class Conductor:
    """Holds the blocks of one TransformerBridge; not for two threads at once (the model's lock sees to that)."""

    def __init__(self, bridge: Any) -> None:
        self.bridge, self.n_blocks = bridge, len(bridge.blocks)
        self.silent = False
        """Whether sites that fire now have fired before in this run: those before the Tail, while reading out."""
        self.muted = False
        """Whether this is a run of our own, which no hook is to see."""
        self._plan: Plan | None = None
        self._lengths: dict[int, int | None] = {}
        taken = inspect.signature(bridge.original_model.forward).parameters
        self._settings = {"use_cache": False} if "use_cache" in taken else {}
        self._own = [block.forward for block in bridge.blocks]
        for i, block in enumerate(bridge.blocks):
            # straight into the instance: a bridge component hands assignments on to the module that it wraps
            block.__dict__["forward"] = partial(self._block, i, self._own[i])

    def rehearse(self, tokens: Tensor) -> Tensor:
        """Logits of the plain model, [batch, pos, d_vocab], after seeing that its blocks can be looped.

        Errors: InputError for blocks that are called several times or out of order, carry other than one stream
        [batch, pos, d_model], or write a cache.
        """
        order: list[int] = []

        def plan(i: int, x: Tensor, call: Call) -> tuple[bool, Tensor]:
            order.append(i)
            if call.caches:
                raise InputError(
                    f"blocks.{i}: it is given a key/value cache though none was asked for."
                )
            if tuple(x.shape) != (*tokens.shape, self.bridge.cfg.d_model):
                raise InputError(
                    f"blocks.{i}: reads a stream of shape {tuple(x.shape)}; only [batch, pos, d_model] can be looped."
                )
            return True, x

        with torch.no_grad(), self._playing(plan):
            logits = self._run(tokens, None)
        if order != list(range(self.n_blocks)):
            raise InputError(
                f"blocks: called in the order {order[:12]}; only a stack that runs once, first to last, can be looped."
            )
        return logits

    def enter(
        self,
        tokens: Tensor,
        attention_mask: Tensor | None,
        start: int,
        served: RunCache | None = None,
        kv: KVCache | None = None,
    ) -> tuple[Tensor, dict[int, Call]]:
        """What enters block `start`, [batch, pos, d_model], and how each block from there on is called.

        With `served`, the Head extends its keys and values in `kv`.
        """
        calls: dict[int, Call] = {}
        entering: list[Tensor] = []

        def plan(i: int, x: Tensor, call: Call) -> tuple[bool, Tensor]:
            if i < start:
                if served is not None and kv is not None:
                    served.serve(kv, ("head", 0, i))
                return True, x
            calls[i] = call
            if i == start:
                entering.append(x)
            if i == self.n_blocks - 1:
                raise _Enough
            return False, x

        with self._playing(plan):
            self._run(tokens, attention_mask, served)
        return entering[0], calls

    def read(
        self,
        z: Tensor,
        tokens: Tensor,
        attention_mask: Tensor | None,
        stop: int,
        served: RunCache | None = None,
        kv: KVCache | None = None,
        k: int = 0,
    ) -> Tensor:
        """Logits [batch, pos, d_vocab] of the blocks from `stop` on and all that follows, applied to z.

        With `served`, the Tail extends its keys and values of depth k in `kv`.
        """
        last = self.n_blocks - 1

        def plan(i: int, x: Tensor, call: Call) -> tuple[bool, Tensor]:
            if i < min(stop, last):
                return False, x
            self.silent = False
            if stop > last:  # no Tail: the last block is passed by and z handed on in its place
                return False, z
            if served is not None and kv is not None:
                served.serve(kv, ("tail", k, i - stop))
            return True, z if i == stop else x

        self.silent = True
        try:
            with self._playing(plan):
                return self._run(tokens, attention_mask, served)
        finally:
            self.silent = False

    def tail(self, z: Tensor, tokens: Tensor, attention_mask: Tensor | None, stop: int) -> Tensor:
        """The last block's output, [batch, pos, d_model], of the blocks from `stop` on applied to z; z if there are none."""
        if stop >= self.n_blocks:
            return z
        ended: list[Tensor] = []

        def plan(i: int, x: Tensor, call: Call) -> tuple[bool, Tensor]:
            if i < stop:
                return False, x
            self.silent = False
            x = z if i == stop else x
            if i < self.n_blocks - 1:
                return True, x
            ended.append(stream(call(self._own[i], x)))
            raise _Enough

        self.silent = True
        try:
            with self._playing(plan):
                self._run(tokens, attention_mask)
        finally:
            self.silent = False
        return ended[0]

    def _run(
        self, tokens: Tensor, attention_mask: Tensor | None, served: RunCache | None = None
    ) -> Tensor:
        settings = self._settings if served is None else {"past_key_values": served}
        return self.bridge(tokens, attention_mask=attention_mask, return_type="logits", **settings)

    @contextmanager
    def _playing(self, plan: Plan) -> Iterator[None]:
        self._plan = plan
        try:
            yield
        except _Enough:
            pass
        finally:
            self._plan = None

    def _block(self, i: int, own: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """What stands in the place of block i's forward."""
        if self._plan is None:
            return own(*args, **kwargs)
        by_name = not args
        if by_name and "hidden_states" not in kwargs:
            raise InputError(
                f"blocks.{i}: it is called without hidden_states; it cannot be looped."
            )
        x = kwargs["hidden_states"] if by_name else args[0]
        call = Call(args[1:], kwargs, by_name)
        play, x = self._plan(i, x, call)
        if play:
            output = call(own, x)
            self._lengths[i] = len(output) if isinstance(output, tuple) else None
            return output
        length = self._lengths[i]
        return x if length is None else (x, *(None,) * (length - 1))
