"""Another window of a bridged model in a loop, without bridging it anew: for comparing windows."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from torch import Tensor

from abbie_lens.bridged.loop import Loop
from abbie_lens.bridged.model import LoopedBridge
from abbie_lens.bridged.stage import BridgedContext, Stage
from abbie_lens.context import position_ids
from abbie_lens.state import State


def window_logits(
    model: LoopedBridge,
    loop: Loop,
    tokens: Tensor,
    attention_mask: Tensor | None = None,
    n_iters: int = 2,
) -> Tensor:
    """Logits [batch, pos, d_vocab] of `model`'s source looped as `loop` says, whatever window `model` itself has.

    Its sites keep the names of `model`'s own window; hooks are not meant to be used here. Errors: ConfigError for a window
    that does not fit.
    """
    blocks, family = list(model.bridge.blocks), loop.family
    loop.fit(len(blocks))
    with model.lock:
        h, calls = model.conductor.enter(tokens, attention_mask, loop.start)
        positions = position_ids(attention_mask, 0, tokens.shape[1], tokens.device)
        context = BridgedContext(positions, None, None, calls=calls)
        state = State(tokens, attention_mask, n_iters, 0, h, h, context)
        looped = SimpleNamespace(
            body=Stage("body", blocks[loop.start : loop.stop], loop.start, model.clock)
        )
        for k in range(n_iters):
            to = family.step(cast(Any, looped), state)
            z = to.h if to.z is None else to.z
            state = state.replace(k=k + 1, h=to.h, z=z, carry=to.carry)
        return model.conductor.read(state.z, tokens, attention_mask, loop.stop)
