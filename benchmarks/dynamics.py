"""Analyses of the dynamics: leading eigenvalues against dense ones, and what Anderson's acceleration saves."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

import abbie_lens
from abbie_lens import zoo
from abbie_lens.loops import AbbieC
from benchmarks.shapes import Shape
from benchmarks.timing import Pairs, paired
from probes.dynamics.jacobian import StepJacobian
from probes.dynamics.radii import Solver, token_radii
from probes.dynamics.solver import find_fixed_points

AGREEMENT = 0.02
MODEL = "0pt-novels-5m"
PLAIN_ITERATIONS = 80
"""Enough for plain iteration of the bundled model to rest at rounding."""


def spectral_radius(shape: Shape, pairs: int) -> Pairs:
    """Spectral radius of every token by Arnoldi, two starts of 26 products / by dense diagonal blocks and eigenvalues, both in float64, within 2%."""
    model = shape.model(AbbieC()).double()
    with torch.no_grad():
        state = model.step(model.begin(shape.tokens(), n_iters=2))

    def radius(solver: Solver) -> torch.Tensor:
        return token_radii(StepJacobian(model, state), solver).radius

    ours, theirs = Solver(n_krylov=26, n_starts=2), Solver("dense")
    expected = radius(theirs)
    off = ((radius(ours) - expected).abs() / expected).max()
    if off > AGREEMENT:
        raise AssertionError(f"radius: {float(off):.3f} off; expected at most {AGREEMENT}.")
    return paired(lambda: radius(ours), lambda: radius(theirs), pairs, warmup=0)


def anderson(shape: Shape, pairs: int) -> Pairs:
    """Body applications of Anderson's iteration / of plain iteration, on the bundled 0pt-novels-5m, float64, to twice the residual at which plain iteration rests. Only batch and length are the shape's."""
    model = abbie_lens.load(MODEL).double()
    ids = model.to_tokens(zoo.sample_text())[0]
    counts = np.empty((pairs, 2))
    for i in range(pairs):
        rows = [
            (i * shape.batch + b) * shape.pos % (len(ids) - shape.pos) for b in range(shape.batch)
        ]
        tokens = torch.stack([ids[row : row + shape.pos] for row in rows])
        given: dict[str, Any] = dict(n_starts=1, limit=PLAIN_ITERATIONS, control=False)
        rest = find_fixed_points(model, tokens, tolerance=1e-300, **given).plain_residual
        found = find_fixed_points(model, tokens, tolerance=2 * float(rest.max()), **given)
        plain, _, accelerated = found.applications[:, 0].max(-1)
        counts[i] = accelerated, plain
    return Pairs(counts[:, 0], counts[:, 1])
