"""Solving x = g(x) by iteration: damped, or with Anderson's acceleration.

    f_i = g(x_i) − x_i
    damped     x_{i+1} = x_i + β f_i                                      (β = 1: plain iteration)
    anderson   γ minimises ‖f_i − ΔF γ‖;   x_{i+1} = x_i + β f_i − (ΔX + β ΔF) γ

ΔX, ΔF: differences of the last `memory` x and f. γ is found apart for every row of the batch. Source: Walker & Ni, SIAM J.
Numer. Anal. 49 (2011).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

RIDGE = 1e-10
"""Weight that keeps least squares of nearly dependent differences from blowing up, with columns of length 1."""


@dataclass(frozen=True)
class Solution:
    """Where the iteration came to, row by row."""

    x: Tensor
    """[batch, pos, d] the iterate of least residual."""
    residual: Tensor
    """[batch] its residual."""
    applications: Tensor
    """[batch] evaluations of g until the residual was at most the tolerance; −1 where it never was."""
    history: Tensor
    """[evaluation, batch] residuals."""


def solve(
    g: Callable[[Tensor], Tensor],
    x: Tensor,
    residual: Callable[[Tensor, Tensor], Tensor],
    *,
    memory: int,
    damping: float,
    tolerance: float,
    limit: int,
) -> Solution:
    """Iterate from x [batch, pos, d] until `residual(x, g(x))` [batch] is at most `tolerance`, or `limit` evaluations.

    `memory` 0 is damped iteration. A row that is not finite any more stays at its best iterate.
    """
    best, least = x, x.new_full(x.shape[:1], float("inf"))
    needed = torch.full(x.shape[:1], -1, device=x.device)
    xs: list[Tensor] = []
    fs: list[Tensor] = []
    history = []
    for i in range(limit):
        f = g(x) - x
        size = residual(x, x + f)
        history.append(size)
        better = size < least
        best = torch.where(better[:, None, None], x, best)
        least = torch.where(better, size, least)
        needed = torch.where((needed < 0) & (size <= tolerance), i + 1, needed)
        if bool(((needed >= 0) | ~torch.isfinite(size)).all()):
            break
        xs, fs = [*xs, x][-memory - 1 :], [*fs, f][-memory - 1 :]
        x = x + damping * f
        if memory and len(xs) > 1:
            x = x - _mixed(xs, fs, damping)
    return Solution(best, least, needed, torch.stack(history))


def _mixed(xs: list[Tensor], fs: list[Tensor], damping: float) -> Tensor:
    """(ΔX + β ΔF) γ, [batch, pos, d]."""
    dx = torch.stack([b - a for a, b in pairwise(xs)], -1).flatten(1, 2)
    df = torch.stack([b - a for a, b in pairwise(fs)], -1).flatten(1, 2)
    length = df.norm(dim=1, keepdim=True)
    scale = torch.where(length > 0, length, torch.ones_like(length))
    n = df.shape[-1]
    ridge = (RIDGE * torch.eye(n, dtype=df.dtype, device=df.device)).expand(len(df), n, n)
    rows = torch.cat([df / scale, ridge], 1)
    goal = torch.cat([fs[-1].flatten(1), df.new_zeros(len(df), n)], 1)[..., None]
    finite = torch.isfinite(rows).flatten(1).all(1) & torch.isfinite(goal).flatten(1).all(1)
    rows = torch.where(finite[:, None, None], rows, torch.zeros_like(rows))
    q, r = torch.linalg.qr(rows + ~finite[:, None, None] * torch.eye(*rows.shape[1:]).to(rows))
    gamma = torch.linalg.solve_triangular(r, q.mT @ goal, upper=True) / scale.mT
    return ((dx + damping * df) @ gamma)[..., 0].view_as(fs[-1])
