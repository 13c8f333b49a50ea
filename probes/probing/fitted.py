"""What every solver of probes gives: coefficients of standardised features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

TOL, MAX_ITER = 3e-4, 400


@dataclass(frozen=True)
class Fitted:
    """Coefficients of [problem] sets of features times [task] labels."""

    coef: Tensor
    """[problem, task, column, width]"""
    intercept: Tensor
    """[problem, task, column]"""
    converged: Tensor
    """[problem, task] bool"""
    n_iters: Tensor
    """[problem, task]"""

    def outputs(self, x: Tensor) -> Tensor:
        """[problem, task, token, column] of standardised x [problem, token, width]."""
        return x[:, None] @ self.coef.transpose(-1, -2) + self.intercept[:, :, None]
