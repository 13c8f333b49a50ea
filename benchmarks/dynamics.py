"""Dynamics of the loop: what measuring them costs beside running it."""

from __future__ import annotations

from dataclasses import replace

import torch

from abbie_lens.loops import AbbieD
from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired
from probes.aggregation import ANALYSES

DEEP = replace(CPU, n_iters=16)
"""As deep as a corpus is analysed by default."""


def distances_pass(shape: Shape, pairs: int) -> Pairs:
    """All distances, norms and verdicts of every token of AbbIE-D, without control and limit / begin, every step and readout of the same batch."""
    model, tokens = shape.model(AbbieD()), shape.tokens()

    @torch.no_grad()
    def forward() -> torch.Tensor:
        state = model.begin(tokens, n_iters=shape.n_iters)
        for _ in range(shape.n_iters):
            state = model.step(state)
        return model.readout(state)

    return paired(
        lambda: ANALYSES["distances"](model, tokens, shape.n_iters),
        forward,
        pairs,
        device=shape.device,
    )
