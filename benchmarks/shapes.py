"""The networks that are measured: their shapes, and ours in them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops.base import LoopFamily


@dataclass(frozen=True)
class Shape:
    """A Llama-style looped transformer, its input, and where both are."""

    d_model: int
    n_heads: int
    d_mlp: int
    d_vocab: int
    batch: int
    pos: int
    blocks: tuple[int, int, int] = (2, 3, 2)
    """Head, Body and Tail blocks."""
    n_iters: int = 2
    device: str = "cpu"
    dtype: torch.dtype = torch.float32

    @property
    def n_layers(self) -> int:
        """Block applications, which is the number of layers of the equal unrolled Llama."""
        head, body, tail = self.blocks
        return head + self.n_iters * body + tail

    def fields(self) -> dict[str, Any]:
        """The same as LoopedConfig names it."""
        head, body, tail = self.blocks
        return dict(
            d_model=self.d_model,
            n_heads=self.n_heads,
            d_mlp=self.d_mlp,
            d_vocab=self.d_vocab,
            n_ctx=self.pos,
            n_head_blocks=head,
            n_body_blocks=body,
            n_tail_blocks=tail,
            n_iters=self.n_iters,
        )

    def model(self, loop: LoopFamily) -> HookedLoopedTransformer:
        """Our network in float32 on the shape's device."""
        cfg = LoopedConfig(**self.fields(), loop=loop, seed=0)
        return HookedLoopedTransformer(cfg).eval().to(self.device)

    def tokens(self) -> Tensor:
        """Token ids [batch, pos]."""
        generator = torch.Generator().manual_seed(0)
        ids = torch.randint(self.d_vocab, (self.batch, self.pos), generator=generator)
        return ids.to(self.device)

    def __str__(self) -> str:
        head, body, tail = self.blocks
        return (
            f"{self.n_layers} Llama blocks ({head} + {body} x {self.n_iters} + {tail}), "
            f"d_model {self.d_model}, {self.n_heads} heads, d_mlp {self.d_mlp}, vocabulary "
            f"{self.d_vocab}, batch {self.batch} x {self.pos} tokens, "
            f"{str(self.dtype).removeprefix('torch.')}"
        )


CPU = Shape(d_model=256, n_heads=4, d_mlp=704, d_vocab=4096, batch=8, pos=256)
LOADED = Shape(
    d_model=1024, n_heads=16, d_mlp=2816, d_vocab=8192, batch=1, pos=256, blocks=(1, 3, 1)
)
"""About 300 MB in float32."""
GPU = Shape(
    d_model=1024,
    n_heads=16,
    d_mlp=2816,
    d_vocab=32768,
    batch=8,
    pos=1024,
    blocks=(2, 5, 2),
    n_iters=4,
    device="cuda",
    dtype=torch.bfloat16,
)
# SmolLM2-135M with blocks 13 to 16 in the loop
SMOLLM2 = Shape(
    d_model=576, n_heads=9, d_mlp=1536, d_vocab=49152, batch=1, pos=512, blocks=(13, 4, 13), n_iters=4
)  # fmt: skip
TINY = replace(CPU, d_model=16, n_heads=2, d_mlp=32, d_vocab=300, batch=2, pos=12)
