"""Interventions: a whole patching grid against one forward pass for each of its cells."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from abbie_lens.loops import AbbieD
from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired
from probes.interventions.patching import patching

AGREEMENT = 1e-5
GRID = replace(CPU, batch=1, pos=16, n_iters=8)
"""A prompt as long as those that are patched, at a depth at which iterations can be told apart."""
STATE = ("loop.hook_state", "loop.hook_readout")


def patching_grid(shape: Shape, pairs: int) -> Pairs:
    """The State of AbbIE-D patched at every iteration and position, in batches that resume where they part / one hooked forward pass a cell."""
    model, tokens = shape.model(AbbieD()), replace(shape, batch=2).tokens()
    clean, corrupt = tokens[:1].clone(), tokens[:1].clone()
    corrupt[0, 1] = (corrupt[0, 1] + 1) % shape.d_vocab  # nearly all cells differ
    with torch.no_grad():
        ends = [model(x, n_iters=shape.n_iters)[0, -1] for x in (clean, corrupt)]
    a, b = (int(x) for x in ends[0].topk(2).indices)
    r, n = shape.n_iters, shape.pos

    def folded() -> np.ndarray:
        found = patching(
            model, clean, corrupt, r, answer=a, other=b, attribution=False, control=False
        )
        return found.patched[0, :, 0, :, 0]

    @torch.no_grad()
    def one_by_one() -> np.ndarray:
        _, cache = model.run_with_cache(clean, n_iters=r, names_filter=list(STATE))

        def patch(x: torch.Tensor, hook: Any) -> torch.Tensor:
            x = x.clone()
            x[:, p] = cache[f"{hook.name}@{k}"][:, p]
            return x

        out = np.empty((r + 1, n))
        for k, p in np.ndindex(r + 1, n):
            hooks = [(f"{site}@{k}", patch) for site in STATE]
            logits = model.run_with_hooks(corrupt, n_iters=r, fwd_hooks=hooks)
            out[k, p] = float(logits[0, -1, a] - logits[0, -1, b])
        return out

    off = float(np.abs(folded() - one_by_one()).max())
    scale = float(ends[1].abs().max())
    if off > AGREEMENT * max(1.0, scale):
        raise AssertionError(f"patching grid: {off:.1e} off the cells computed one by one")
    return paired(folded, one_by_one, pairs, warmup=1, device=shape.device)
