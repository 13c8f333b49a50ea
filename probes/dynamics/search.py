"""From many starts to distinct solutions: every method from every start, what lies together counted as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.halting.measures import unit
from probes import numerics
from probes.dynamics.anderson import Solution, solve
from probes.dynamics.jacobian import Map, StepJacobian, map_at
from probes.dynamics.radii import Solver, token_radii
from probes.dynamics.restarts import restarted
from probes.dynamics.walk import Walk, drawn
from probes.progress import Progress

METHODS = ("plain", "damped", "anderson")
FARTHEST = 1e6
"""Lengths of h_k beyond which nothing is looked for."""


@dataclass(frozen=True)
class Budget:
    """How long is searched, and for what: the arguments of `find_fixed_points`."""

    n_starts: int
    sizes: tuple[float, ...]
    tolerance: float
    same: float
    limit: int
    damping: float
    memory: int
    seed: int

    def of(self, method: str) -> dict[str, Any]:
        """Settings of one method."""
        return {
            "memory": self.memory if method == "anderson" else 0,
            "damping": self.damping if method == "damped" else 1.0,
            "tolerance": self.tolerance,
            "limit": self.limit,
        }


@dataclass
class _Found:
    """A solution of one sequence."""

    point: Tensor
    residual: float
    by: np.ndarray


def search(walk: Walk, of: Map, budget: Budget, counting: Progress) -> dict[str, Any]:
    """Fields of `FixedPointSearch`, by name."""
    own, frozen = _context(walk)
    g, at = map_at(walk.model, frozen, of)
    scale, real = at.norm(dim=-1), torch.as_tensor(walk.inputs.valid, device=at.device)
    far = _Distance(scale, real)
    starts = _starts(own if of == "step" else unit(own), scale, budget)
    batch = len(real)
    applications = np.full((len(METHODS), budget.n_starts, batch), -1)
    found: list[list[_Found]] = [[] for _ in range(batch)]
    plain: Solution | None = None
    for i, method in enumerate(METHODS):
        for j, start in enumerate(starts):
            with torch.no_grad():
                done = solve(g, start, far.residual, **budget.of(method))
            plain = done if plain is None else plain
            applications[i, j] = done.applications.cpu().numpy()
            for b in np.flatnonzero(applications[i, j] >= 0).tolist():
                _collect(found[b], done, b, i, far, budget.same)
            counting.step()
    assert plain is not None
    radius, error = _radii(walk, frozen, of, found, budget.seed)
    rows = [(b, one) for b, several in enumerate(found) for one in several]
    width = at.shape[1:]
    ended = [float(far.row(b, one.point, plain.x[b])) for b, one in rows]
    # where plain iteration never came to rest there is no end to measure to
    went = [bool(applications[0, 0, b] >= 0) for b, _ in rows]
    return {
        "sequence": np.array([b for b, _ in rows], int),
        "points": np.stack([numerics.host(one.point) for _, one in rows])
        if rows
        else np.zeros((0, *width)),
        "residual": np.array([one.residual for _, one in rows], float),
        "radius": radius,
        "radius_error": error,
        "found": np.stack([one.by for _, one in rows])
        if rows
        else np.zeros((0, len(METHODS)), int),
        "from_plain": np.array(
            [d if ok else np.nan for d, ok in zip(ended, went, strict=True)], float
        ),
        "applications": applications,
        "plain_residual": numerics.host(plain.residual),
    }


class _Distance:
    """‖x − y‖ in lengths of h_k, `scale` [batch, pos], the largest over tokens."""

    def __init__(self, scale: Tensor, real: Tensor) -> None:
        self.scale, self.real = torch.where(scale > 0, scale, torch.ones_like(scale)), real

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """[batch] of y = g(x); infinite where y is too far out for it to be told from rounding."""
        off = (x - y).norm(dim=-1) / self.scale
        off = torch.where(y.norm(dim=-1) > FARTHEST * self.scale, float("inf"), off)
        return torch.where(self.real, off, torch.zeros_like(off)).amax(-1)

    def row(self, b: int, x: Tensor, y: Tensor) -> Tensor:
        """The same of sequence b alone, x and y [pos, d]."""
        ratio = (x - y).norm(dim=-1) / self.scale[b]
        return ratio[self.real[b]].amax()


def _context(walk: Walk) -> tuple[Tensor, Any]:
    """h_0, and the State from which the last iteration leads."""
    first, last = None, None
    for state in walk.states():
        first = state if first is None else first
        if state.k < walk.inputs.n_iters:
            last = state
    assert first is not None and last is not None
    return first.h, last


def _starts(own: Tensor, scale: Tensor, budget: Budget) -> list[Tensor]:
    starts = [own]
    for i, noise in enumerate(drawn(budget.seed, budget.n_starts - 1, own)):
        size = budget.sizes[i % len(budget.sizes)] * torch.where(scale > 0, scale, 1.0)
        starts.append(unit(noise) * size[..., None])
    return starts


def _collect(
    known: list[_Found], done: Solution, b: int, method: int, far: _Distance, same: float
) -> None:
    point, residual = done.x[b], float(done.residual[b])
    near = [one for one in known if float(far.row(b, one.point, point)) <= same]
    if near:
        one = near[0]
        if residual < one.residual:
            one.point, one.residual = point, residual
    else:
        one = _Found(point, residual, np.zeros(len(METHODS), int))
        known.append(one)
    one.by[method] += 1


def _radii(
    walk: Walk, frozen: Any, of: Map, found: list[list[_Found]], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """ρ and its error [solution, pos] at every solution, in the order of the sequences."""
    valid, h = walk.inputs.valid, frozen.h
    most = max(map(len, found))
    radius = [np.full((len(one), valid.shape[1]), np.nan) for one in found]
    error = [values.copy() for values in radius]
    for n in range(most):
        # Sequences with fewer solutions stay where the run was: they are not looked at.
        x = torch.stack([one[n].point if n < len(one) else h[b] for b, one in enumerate(found)])
        if of == "direction":
            x = x * h.norm(dim=-1, keepdim=True)
        with torch.no_grad():
            state = restarted(walk.model, frozen, x)
        ritz = token_radii(StepJacobian(walk.model, state, of), Solver(seed=seed))
        for b, one in enumerate(found):
            if n < len(one):
                radius[b][n] = np.where(valid[b], ritz.radius[b].numpy(), np.nan)
                error[b][n] = np.where(valid[b], ritz.error[b, :, 0].numpy(), np.nan)
    return np.concatenate(radius), np.concatenate(error)
