"""Eigenvalues of one iteration's derivative: of every token's diagonal block, and of the whole sequence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.dynamics import krylov
from probes.dynamics.jacobian import StepJacobian
from probes.dynamics.walk import drawn, whole_number

Method = Literal["arnoldi", "dense"]
DENSE_LIMIT = 4096
"""Largest side of a whole-sequence Jacobian that `dense` writes out."""


@dataclass(frozen=True)
class Solver:
    """How eigenvalues are found. Errors: InputError for a setting out of range."""

    method: Method = "arnoldi"
    n_krylov: int = 30
    """m, products from each start."""
    n_starts: int = 2
    """Random starts, whose spread is an error bar."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.method not in ("arnoldi", "dense"):
            raise InputError(f"method={self.method!r}: expected 'arnoldi' or 'dense'.")
        whole_number("n_krylov", self.n_krylov)
        whole_number("n_starts", self.n_starts)
        whole_number("seed", self.seed, least=0)


def token_radii(jacobian: StepJacobian, solver: Solver) -> krylov.Ritz:
    """Leading eigenvalues of every token's diagonal block, [batch, pos, n]."""
    if solver.method == "dense":
        return _all_of(jacobian.dense_blocks())
    starts = drawn(solver.seed, solver.n_starts, jacobian.point)
    product = lambda w: jacobian.blocks_transposed(w[None])[0]  # noqa: E731
    return krylov.leading(product, starts, solver.n_krylov)


def sequence_radius(jacobian: StepJacobian, valid: np.ndarray, solver: Solver) -> krylov.Ritz:
    """Leading eigenvalues of the whole sequence's Jacobian, [batch, n], without padding (`valid` [batch, pos]).

    Errors: InputError where `dense` is asked for one that is too large.
    """
    batch, pos, d = jacobian.point.shape
    real = torch.as_tensor(valid, device=jacobian.point.device)[..., None].expand(-1, -1, d)
    if solver.method == "dense":
        if pos * d > DENSE_LIMIT:
            raise InputError(
                f"method='dense': the sequence's Jacobian has {pos * d} rows; expected at most {DENSE_LIMIT}, or 'arnoldi'."
            )
        flat = real.flatten(1)
        whole = jacobian.dense()
        return _all_of(
            torch.where(flat[:, :, None] & flat[:, None], whole, torch.zeros_like(whole))
        )
    starts = drawn(solver.seed, solver.n_starts, jacobian.point) * real

    def product(w: Tensor) -> Tensor:
        back = jacobian.apply_transposed(w.view(1, batch, pos, d))[0]
        return torch.where(real, back, torch.zeros_like(back)).flatten(1)

    return krylov.leading(product, starts.flatten(2), solver.n_krylov)


def _all_of(matrix: Tensor) -> krylov.Ritz:
    n = matrix.shape[-1]
    return krylov.ritz(matrix, matrix.new_zeros(*matrix.shape[:-2], 0, n), n)
