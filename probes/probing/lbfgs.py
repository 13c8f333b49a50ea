"""Many smooth convex problems minimised at once: L-BFGS with a step length and a memory of its own for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

MEMORY = 10
_ARMIJO, _HALVINGS = 1e-4, 20

_REFRESH = (8, 24, 72, 216)
"""Steps before which the preconditioner is made anew where the problems have come to."""

Objective = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""(x [problem, size], which [problem] bool) -> value [problem] and gradient [problem, size] of those."""


class Preconditioner(Protocol):
    """An approximate inverse Hessian of every problem, positive definite."""

    def __call__(self, vectors: Tensor) -> Tensor:
        """Its product with vectors [problem, size]."""
        ...

    def refresh(self, x: Tensor) -> bool:
        """Make it for x [problem, size]; False if it stays as it is."""
        ...


@dataclass(frozen=True)
class Minimum:
    """Where each problem ended."""

    x: Tensor
    """[problem, size]"""
    converged: Tensor
    """[problem] whether the next step would change no coefficient by more than the tolerance."""
    n_iters: Tensor
    """[problem]"""


def minimise(
    objective: Objective,
    start: Tensor,
    precondition: Preconditioner,
    *,
    tol: float,
    max_iter: int,
) -> Minimum:
    """Minimise from `start` [problem, size].

    tol: a problem is done when its next step changes no coefficient by more, as a share of the largest
    coefficient or of 1. Source: Nocedal & Wright 2006, algorithms 7.4 and 7.5.
    """
    x = start.clone()
    todo = torch.ones(len(x), dtype=torch.bool, device=x.device)
    converged, n_iters = torch.zeros_like(todo), torch.zeros(len(x), dtype=torch.long)
    n_iters = n_iters.to(x.device)
    value, gradient = objective(x, todo)
    memory: list[_Pair] = []
    noise = 8 * torch.finfo(x.dtype).eps
    for n in range(max_iter):
        if n in _REFRESH and precondition.refresh(x):
            memory[-1] = replace(memory[-1], scale=_fitting(memory[-1], precondition))
        step = -_product(gradient, memory, precondition)
        slope = (step * gradient).sum(-1)
        size = x.abs().amax(-1).clamp(min=1)
        rests = ~(step.abs().amax(-1) > tol * size)
        converged |= todo & rests & torch.isfinite(value)
        todo &= ~rests & torch.isfinite(value)
        if not todo.any():
            break
        n_iters += todo
        length = torch.ones_like(slope)
        wait, new_value, new_gradient = todo.clone(), value.clone(), gradient.clone()
        for _ in range(_HALVINGS):
            tried, slopes = objective(x + length[:, None] * step, wait)
            good = tried <= value + _ARMIJO * length * slope + noise * value.abs()
            taken = wait & good
            new_value = torch.where(taken, tried, new_value)
            new_gradient = torch.where(taken[:, None], slopes, new_gradient)
            wait &= ~good
            if not wait.any():
                break
            # the minimum of the parabola through what is known, within bounds
            bend = tried - value - length * slope
            shorter = (-slope * length.square() / (2 * bend)).nan_to_num(0, 0, 0).to(length)
            shorter = torch.minimum(torch.maximum(shorter, 0.1 * length), 0.5 * length)
            length = torch.where(wait, shorter, length)
        moved = todo & ~wait
        # no step goes down: rounding is all that is left
        todo &= moved
        change = torch.where(moved[:, None], length[:, None] * step, 0)
        turn = torch.where(moved[:, None], new_gradient - gradient, 0)
        x, value, gradient = x + change, new_value, new_gradient
        curvature = (change * turn).sum(-1)
        usable = curvature > torch.finfo(x.dtype).eps * turn.square().sum(-1)
        inverse = torch.where(usable, 1 / curvature, 0)
        pair = _Pair(change, turn, inverse, torch.ones_like(inverse))
        scale = _fitting(pair, precondition)
        if memory:
            scale = torch.where(usable, scale, memory[-1].scale)
        memory.append(replace(pair, scale=scale))
        memory = memory[-MEMORY:]
    return Minimum(x, converged, n_iters)


@dataclass(frozen=True)
class _Pair:
    """One step and what it did to the gradient."""

    change: Tensor
    turn: Tensor
    inverse: Tensor
    """[problem] 1 / (change · turn), 0 where the pair is of no use."""
    scale: Tensor
    """[problem] what the preconditioner has to be multiplied with to fit the newest pair."""


def _fitting(pair: _Pair, precondition: Preconditioner) -> Tensor:
    """[problem] the pair's scale; 1 where it is of no use."""
    flat = pair.inverse * (pair.turn * precondition(pair.turn)).sum(-1)
    return torch.where(flat > 0, 1 / flat, 1)


def _product(gradient: Tensor, memory: list[_Pair], precondition: Preconditioner) -> Tensor:
    """The two loops: an inverse Hessian that fits the last steps, times the gradient."""
    left, shares = gradient, []
    for pair in reversed(memory):
        share = pair.inverse * (pair.change * left).sum(-1)
        left = left - share[:, None] * pair.turn
        shares.append(share)
    result = precondition(left)
    if memory:
        result = memory[-1].scale[:, None] * result
    for pair, share in zip(memory, reversed(shares), strict=True):
        off = share - pair.inverse * (pair.turn * result).sum(-1)
        result = result + off[:, None] * pair.change
    return result
