"""Analyses of the dynamics: what distances cost beside a run, leading eigenvalues against dense ones, what Anderson saves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

import abbie_lens
from abbie_lens import zoo
from abbie_lens.loops import AbbieC, AbbieD
from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired
from probes.aggregation import ANALYSES
from probes.dynamics.jacobian import StepJacobian
from probes.dynamics.radii import Solver, token_radii
from probes.dynamics.solver import find_fixed_points

AGREEMENT = 0.02
MODEL = "0pt-novels-5m"
PLAIN_ITERATIONS = 80
"""Enough for plain iteration of the bundled model to rest at rounding."""


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
