"""What a config of a looped model says of its stages, whatever their blocks are."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar, Self

import torch

from abbie_lens import loops
from abbie_lens.loops.base import LoopFamily


class StagedConfig:
    """What a Head, a Body in a loop and a Tail say of themselves, whatever their blocks are."""

    n_head_blocks: int
    n_body_blocks: int
    n_tail_blocks: int
    n_iters: int
    loop: LoopFamily
    dtype: str
    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def torch_dtype(self) -> torch.dtype:
        """The parameters' dtype as torch names it."""
        return getattr(torch, self.dtype)

    def n_layers(self, n_iters: int | None = None) -> int:
        """Blocks of the equivalent plain transformer at this depth: N_h + r N_b + N_t."""
        r = self.n_iters if n_iters is None else n_iters
        return self.n_head_blocks + r * self.n_body_blocks + self.n_tail_blocks

    def replace(self, **changes: Any) -> Self:
        """A copy with the named fields changed."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `loop` is tagged by family."""
        plain = {
            f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "loop"
        }
        return {**plain, "loop": loops.encode(self.loop)}
