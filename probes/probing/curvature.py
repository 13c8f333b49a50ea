"""The preconditioner of logistic regression: an inverse Hessian of each column, from a part of the tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from probes.probing.logistic import Job

_ROWS = 8
"""Tokens that are looked at, in multiples of the width: an approximation will do."""
_LEAST_ROWS = 512
_ROOM = 1 << 26
"""Most numbers that the inverses may take; beyond, all columns go on sharing one."""
_DAMPING = 1e-5
"""Share of the tokens' number added to the penalty: float32 has no smaller eigenvalues to offer."""


class Curvature:
    """(Xᵀ D_c X + penalty)⁻¹ for each column c, D_c = diag p_c(1 − p_c) over tokens.

    Those are the Hessian's diagonal blocks. Böhning (1992) bounds D_c for all tokens; it begins as the
    value at the shares of the classes, one Gram matrix for all columns, and `refresh` takes it where the
    weights are. What is left out, L-BFGS learns.
    """

    def __init__(self, job: Job) -> None:
        self.job, x, y = job, job.of.x, job.y
        _, self.total, self.width = x.shape
        taken = min(self.total, max(_ROWS * self.width, _LEAST_ROWS))
        stride = self.total // taken
        self.rows, self.weight = x[:, : stride * taken : stride], self.total / taken
        if job.of.softmax:
            y = torch.nn.functional.one_hot(y, job.of.n_columns).to(x)
        share = y.mean(1)
        self.mean = (share * (1 - share)).clamp(min=1 / (4 * self.total))[None]
        gram = (self.rows.transpose(1, 2) @ self.rows)[:, None] * self.weight
        common = self.mean.mean(-1)
        self.root = (self.mean / common[..., None]).sqrt()
        # [problem, task, 1, width, width]: one for all columns
        self.inverse = self._inverse(common[..., None, None] * gram)[:, :, None]

    def __call__(self, vectors: Tensor) -> Tensor:
        """Gradients [problem and task, parameters] times the inverse."""
        n, m, rows, c = self.job.shape
        gradient = vectors.view(n, m, rows, c)
        scaled = gradient[:, :, :-1] / self.root[:, :, None]
        if self.inverse.shape[2] == 1:
            inner = self.inverse[:, :, 0] @ scaled
        else:
            columns = self.inverse @ scaled.transpose(-1, -2)[..., None]
            inner = columns[..., 0].transpose(-1, -2)
        inner = inner / self.root[:, :, None]
        offset = gradient[:, :, -1:] / (self.mean[:, :, None] * self.total)
        return torch.cat([inner, offset], 2).reshape(n * m, -1)

    def refresh(self, x: Tensor) -> bool:
        """Take D_c at the weights x."""
        n, m, rows, c = self.job.shape
        if n * m * c * self.width**2 > _ROOM:
            return False
        weights = x.view(n, m, rows, c)
        logits = self.rows[:, None] @ weights[:, :, :-1] + weights[:, :, -1:]
        said = logits.softmax(-1) if self.job.of.softmax else logits.sigmoid()
        bent = (said * (1 - said)).transpose(-1, -2)  # [problem, task, column, token]
        self.mean = bent.mean(-1).clamp(min=1e-3 / self.total)
        self.root = torch.ones_like(self.mean)
        inverse = self.rows.new_empty(n, m, c, self.width, self.width)
        for column in range(c):
            left = self.rows[:, None] * bent[:, :, column, :, None]
            gram = left.transpose(-1, -2) @ self.rows[:, None] * self.weight
            inverse[:, :, column] = self._inverse(gram)
        self.inverse = inverse
        return True

    def _inverse(self, gram: Tensor) -> Tensor:
        """Of [problem, task, width, width] with the penalty on its diagonal."""
        level = gram.diagonal(dim1=-2, dim2=-1).mean(-1)
        ridge = self.job.penalties + _DAMPING * level
        eye = torch.eye(self.width, dtype=gram.dtype, device=gram.device)
        return torch.cholesky_inverse(torch.linalg.cholesky(gram + ridge[..., None, None] * eye))
