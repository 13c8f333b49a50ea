"""What Anderson's iteration saves in solving for a fixed point, and what nothing that combines iterates can save there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

import abbie_lens
from abbie_lens import zoo
from benchmarks.shapes import Shape
from benchmarks.timing import Pairs
from probes.dynamics.anderson import Solution, solve
from probes.dynamics.jacobian import Map, StepJacobian, map_at, unit
from probes.dynamics.restarts import restarted

N_ITERS = 8
MEMORY = 10
PLAIN_ITERATIONS = 80
"""Enough for plain iteration of 0pt-novels-5m to rest at rounding."""
LINEAR_ITERATIONS = 60
FLT_ITERATIONS = 400
FLT_TOLERANCE = 1e-12


@dataclass(frozen=True)
class _Problem:
    """x = g(x), the map at the context of the last iteration, from the run's own h_0."""

    g: Callable[[Tensor], Tensor]
    start: Tensor
    scale: Tensor
    state: Any

    @classmethod
    @torch.no_grad()
    def of(cls, model: Any, tokens: Tensor, of: Map) -> _Problem:
        state = model.begin(tokens, n_iters=N_ITERS)
        h = state.h
        for _ in range(N_ITERS - 1):
            state = model.step(state)
        g, at = map_at(model, state, of)
        start = h.expand_as(at) if of == "step" else unit(h.expand_as(at))
        return cls(g, start, at.norm(dim=-1), state)

    @torch.no_grad()
    def solved(self, memory: int, tolerance: float, limit: int) -> Solution:
        def residual(x: Tensor, y: Tensor) -> Tensor:
            return ((x - y).norm(dim=-1) / self.scale).amax(-1)

        return solve(
            self.g, self.start, residual,
            memory=memory, damping=1.0, tolerance=tolerance, limit=limit,
        )  # fmt: skip

    def counts(self, tolerance: float, limit: int) -> list[int]:
        """Applications of Anderson's and of plain iteration, of the sequence that takes most.

        Errors: AssertionError where Anderson's does not arrive; of plain iteration `limit` then counts.
        """
        faster, plain = (self.solved(m, tolerance, limit).applications for m in (MEMORY, 0))
        if bool((faster < 0).any()):
            raise AssertionError(f"Anderson's iteration did not arrive in {limit} applications.")
        return [int(n.where(n >= 0, limit).max()) for n in (faster, plain)]


def anderson(shape: Shape, pairs: int) -> Pairs:
    """Body applications of Anderson's iteration / of plain iteration, on the bundled 0pt-novels-5m, float64, to twice the residual at which plain iteration rests. Only batch and length are the shape's."""
    model = abbie_lens.load("0pt-novels-5m").double()
    counts, windows = [], _windows(model, shape, pairs)
    for tokens in windows:
        problem = _Problem.of(model, tokens, "step")
        rest = problem.solved(0, 1e-300, PLAIN_ITERATIONS).residual.max()
        counts.append(problem.counts(2 * float(rest), PLAIN_ITERATIONS))
    return replace(_pairs(counts), note=_limits(model, _Problem.of(model, windows[0][:1], "step")))


def anderson_flt(shape: Shape, pairs: int) -> Pairs:
    """The same on the bundled flt-novels-5m, which few directions slow down, to a residual of 1e-12; where plain iteration has not arrived after 400 applications, those count."""
    model = abbie_lens.load("flt-novels-5m").double()
    problems = [_Problem.of(model, tokens, "step") for tokens in _windows(model, shape, pairs)]
    return _pairs([problem.counts(FLT_TOLERANCE, FLT_ITERATIONS) for problem in problems])


def residuals(product: Callable[[Tensor], Tensor], r: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """‖p(A) r‖ / ‖r‖ [n + 1], the least over polynomials p of degree 0 … n with p(1) = 1: GMRES on (1 − A) x = r; and of z^k.

    No iteration that combines its own evaluations of x ↦ A x + b is at a smaller residual after as many. `product` and r
    have the same shape. Source: Saad & Schultz, SIAM J. Sci. Stat. Comput. 7 (1986); Walker & Ni (2011) for Anderson's.
    """
    basis = r.new_zeros(n + 1, r.numel())
    projected = r.new_zeros(n + 1, n)
    basis[0] = (r / r.norm()).flatten()
    left = [1.0]
    for j in range(n):
        v = basis[j].view_as(r)
        w = (v - product(v)).flatten()
        for _ in range(2):
            along = basis[: j + 1] @ w
            w = w - along @ basis[: j + 1]
            projected[: j + 1, j] += along
        projected[j + 1, j] = w.norm()
        basis[j + 1] = w / w.norm()
        q = torch.linalg.qr(projected[: j + 2, : j + 1], mode="complete").Q
        left.append(float(q[0, -1].abs()))
    power, plain = r.new_zeros(n + 1), []
    power[0] = 1.0
    for _ in range(n + 1):
        plain.append(float(power.norm()))
        power = power - projected @ power[:-1]
    return torch.tensor(left, dtype=torch.float64), torch.tensor(plain, dtype=torch.float64)


def _limits(model: Any, problem: _Problem) -> str:
    """What the linearisation at the fixed point says about the first sequence, in words for the report."""
    with torch.no_grad():
        x = problem.solved(0, 1e-300, PLAIN_ITERATIONS).x
        jacobian = StepJacobian(model, restarted(model, problem.state, x))
        r = problem.g(problem.start) - problem.start
        once = lambda v: jacobian.apply(v[None])[0]  # noqa: E731
        least, plain = residuals(once, r, LINEAR_ITERATIONS)
    goal = torch.finfo(r.dtype).eps
    size = torch.linalg.eigvals(jacobian.dense_blocks()).abs()
    share = (size >= size.amax(-1, keepdim=True) / 2).double().mean(-1).median()
    return (
        f"What bounds it: with the map linearised at the fixed point the residual falls to rounding in "
        f"{int((least > goal).sum())} applications by GMRES, the fewest that any combination of them can do with, and in "
        f"{int((plain > goal).sum())} by plain iteration. Of a token's multipliers a share of {float(share):.2f} has at least "
        f"half the largest modulus (a filled disc: 0.75), and in a disc of radius ρ no polynomial of degree k is below ρ^k."
    )


def _windows(model: Any, shape: Shape, pairs: int) -> list[Tensor]:
    """Token ids [batch, pos] of the bundled text, another stretch for every pair."""
    ids = model.to_tokens(zoo.sample_text())[0]
    rows = [n * shape.pos % (len(ids) - shape.pos) for n in range(pairs * shape.batch)]
    cut = torch.stack([ids[row : row + shape.pos] for row in rows])
    return list(cut.view(pairs, shape.batch, shape.pos))


def _pairs(counts: list[list[int]]) -> Pairs:
    """From (Anderson's, plain) of every window."""
    found = np.array(counts, float)
    return Pairs(found[:, 0], found[:, 1])
