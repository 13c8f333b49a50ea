"""Analyses of the dynamics: what distances cost beside a run, leading eigenvalues against dense ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from abbie_lens.loops import AbbieC, AbbieD
from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired
from probes.aggregation import ANALYSES
from probes.dynamics import krylov
from probes.dynamics.jacobian import StepJacobian
from probes.dynamics.radii import Solver, token_radii

AGREEMENT = 0.02
BARE = 5
"""Pairs beside, against eigenvalues without errors."""
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
    """Spectral radius of every token with its error by Arnoldi, one start of 48 products / by dense diagonal blocks, their eigenvalues and the errors of those, both in float64, within 2%."""
    model = shape.model(AbbieC()).double()
    with torch.no_grad():
        state = model.step(model.begin(shape.tokens(), n_iters=2))

    def found(solver: Solver) -> krylov.Ritz:
        return token_radii(StepJacobian(model, state), solver)

    def bare() -> torch.Tensor:
        return torch.linalg.eigvals(StepJacobian(model, state).dense_blocks()).abs().amax(-1)

    ours, theirs = Solver(n_krylov=48, n_starts=1), Solver("dense")
    expected = found(theirs).radius
    off = ((found(ours).radius - expected).abs() / expected).max()
    if off > AGREEMENT:
        raise AssertionError(f"radius: {float(off):.3f} off; expected at most {AGREEMENT}.")
    timed = paired(lambda: found(ours), lambda: found(theirs), pairs, warmup=0)
    alone = paired(lambda: found(ours), bare, BARE, warmup=0).time_ratios
    return replace(
        timed,
        note=f"Farthest token {float(off):.4f} off. Against eigenvalues without errors: {np.median(alone):.3f}, "
        f"median of {BARE} pairs.",
    )
