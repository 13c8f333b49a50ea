"""Running on from another state: which models keep their input then, and where such runs end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from abbie_lens.components.value_embed import ValueEmbedding
from probes.dynamics.walk import Walk

AFTER = 1
"""Iterations before the restart: in their first, some loops do not read the state that they carry."""


def reinjects(model: Any) -> bool:
    """Whether iterations read the input again: by the family, or by value embeddings in the Body."""
    cfg = getattr(model, "cfg", None)
    if cfg is None:
        return bool(getattr(model, "reinjects", False))
    modules = getattr(model.body, "modules", tuple)
    return bool(cfg.loop.reinjects) or any(isinstance(part, ValueEmbedding) for part in modules())


def restarted(model: Any, state: Any, h: Tensor) -> Any:
    """`state` with h [batch, pos, d] for h_k, and what else the next iteration reads in agreement with it."""
    loop = getattr(getattr(model, "cfg", None), "loop", None)
    return state.replace(h=h) if loop is None else loop.restart(model, state, h)


def start_of(walk: Walk) -> Any:
    """The State after `AFTER` iterations of at least as many, from which runs are restarted."""
    return next(state for state in walk.states() if state.k == AFTER)


@torch.no_grad()
def run_on(walk: Walk, state: Any) -> Any:
    """The State at the planned depth, from `state` on."""
    for _ in range(state.k, walk.inputs.n_iters):
        state = walk.model.step(state)
    return state
