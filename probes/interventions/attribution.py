"""Attribution patching: the first-order estimate of every patch, from one run and one gradient.

    m_patched − m_corrupt ≈ ∂m/∂x · (x_clean − x_corrupt),  at the corrupt run

Every site and every State is given a node of its own in the graph, so that the derivative is of what is handed on from there,
and not of a tensor that several iterations share. Fused attention has a first derivative; no other kernel is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.halting.measures import wide
from probes.interventions.metrics import Metric, evaluated
from probes.interventions.pairs import Pairs
from probes.interventions.sites import STATE
from probes.interventions.states import expanded, joined, tensors
from probes.numerics import host

Key = tuple[str, int]


def attributed(
    model: Any,
    pairs: Pairs,
    runs: Mapping[str, Any],
    names: Sequence[str],
    values: Mapping[Key, Any],
    metric: Metric,
) -> dict[Key, np.ndarray]:
    """[pair, pos, head] estimated change of m by site and row; head is 1 for values [pair, pos, d_model]."""
    shape = pairs.corrupt.tokens.shape
    nodes: dict[Key, list[Tensor]] = {}

    def own(x: Tensor) -> Tensor:
        """The same numbers, from here on a variable of their own."""
        if not x.is_floating_point():
            return x
        x = x if x.requires_grad else x.detach().requires_grad_()
        return x.view_as(x)

    def keep(site: str) -> tuple[str, Callable[..., Tensor]]:
        def fn(tensor: Tensor, hook: Any) -> Tensor:
            tensor = own(tensor)
            nodes[site, hook.iteration] = [tensor]
            return tensor

        return site, fn

    def noted(state: Any) -> Any:
        if STATE not in names:
            return state
        state = joined(own, expanded(state))
        nodes[STATE, state.k] = tensors(state)
        return state

    hooks = [keep(name) for name in names if name != STATE]
    with getattr(model, "lock", None) or nullcontext(), torch.enable_grad():
        with model.hooks(fwd_hooks=hooks):
            inputs = pairs.corrupt
            state = noted(
                model.begin(inputs.tokens, n_iters=inputs.n_iters, attention_mask=inputs.mask)
            )
            for _ in range(inputs.n_iters):
                state = noted(model.step(state))
        run = runs["corrupt"]
        read = run.logits(state, run.at)
        m = evaluated(metric, read, torch.arange(shape[0], device=read.device)).sum()
        wanted = [x for group in nodes.values() for x in group if x.requires_grad]
        found = (
            torch.autograd.grad(m, wanted, allow_unused=True) if wanted and m.requires_grad else ()
        )
    gradient = {id(x): g for x, g in zip(wanted, found, strict=False) if g is not None}

    change: dict[Key, np.ndarray] = {}
    for (name, k), group in nodes.items():
        clean = values[name, k]
        targets = tensors(clean) if name == STATE else [clean]
        total = np.zeros((*shape, 1))
        for x, target in zip(group, targets, strict=True):
            g = gradient.get(id(x))
            if g is None:
                continue
            product = wide(g) * (wide(target) - wide(x.detach()))
            by_head = name != STATE and product.ndim == 4
            total = total + host(
                product.sum(-1) if by_head else product.reshape(*shape, -1).sum(-1, keepdim=True)
            )
        change[name, k] = total
    return change
