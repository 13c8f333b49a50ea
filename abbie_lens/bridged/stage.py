"""Stage: the bridged blocks of the Head, the Body or the Tail, and what all of a run share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from abbie_lens.bridged.conductor import Call, stream
from abbie_lens.bridged.run_cache import RunCache
from abbie_lens.context import Context
from abbie_lens.hooks.points import Clock
from abbie_lens.state import State


@dataclass(frozen=True)
class BridgedContext(Context):
    """A Context whose masks and rotations are the ones that the model's own forward made for each block."""

    calls: Mapping[int, Call] = field(default_factory=dict)
    """By block, counted over the whole stack."""
    served: RunCache | None = None
    """What the blocks are called with as their cache; None when nothing is cached."""


class Stage:
    """Blocks `first` to `first + len - 1` of a bridge; no module, for the blocks belong to the bridged model."""

    def __init__(self, name: str, blocks: list[Any], first: int, clock: Clock) -> None:
        self.name, self.blocks, self.first, self.clock = name, blocks, first, clock

    def __call__(self, x: Tensor, state: State) -> Tensor:
        """x [batch, pos, d_model] -> [batch, pos, d_model]; `state.k` is the row of the sites inside."""
        context = state.context
        assert isinstance(context, BridgedContext)
        self.clock.iteration, entered = state.k, x.device
        for b, block in enumerate(self.blocks):
            if context.served is not None and context.kv is not None:
                context.served.serve(context.kv, (self.name, state.k, b))
            x = stream(context.calls[self.first + b](block, x))
        # blocks may be on several devices; a carry mixes what enters and what leaves
        return x.to(entered)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.blocks)

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, b: int) -> Any:
        return self.blocks[b]
