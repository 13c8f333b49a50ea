"""Penalised logistic regression, many at once: [problem] sets of features times [task] labels and penalties."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from probes.probing.lbfgs import minimise

Link = Literal["softmax", "sigmoid"]
TOL, MAX_ITER = 1e-3, 400
_ROWS_OF_HESSIAN = 8
"""Rows, in multiples of the width, from which the preconditioner is made: an approximation will do."""
_CHUNK_ELEMENTS = {"cpu": 1 << 18}
"""Features in a piece of rows: on CPUs as much as stays in the cache between its two products."""
_CHUNK_ELSEWHERE = 1 << 28


@dataclass(frozen=True)
class Fitted:
    """Coefficients of standardised features."""

    coef: Tensor
    """[problem, task, column, width]"""
    intercept: Tensor
    """[problem, task, column]"""
    converged: Tensor
    """[problem, task]"""
    n_iters: Tensor
    """[problem, task]"""


@dataclass(frozen=True)
class Logistic:
    """Σ_tokens loss + penalty/2 · ‖W‖², the intercept free: scikit-learn's objective with C = 1/penalty.

    softmax: one of `n_columns` classes; sigmoid: each column 0 or 1 for itself.
    """

    x: Tensor
    """[problem, token, width] standardised."""
    y: Tensor
    """softmax: [task, token] class numbers; sigmoid: [task, token, column] 0 or 1 in x's dtype."""
    penalties: Tensor
    """[task] in x's dtype."""
    n_columns: int
    link: Link

    def fit(
        self, start: Tensor | None = None, *, tol: float = TOL, max_iter: int = MAX_ITER
    ) -> Fitted:
        """Minimise. start: [problem, task, width + 1, column] of an earlier fit, the intercept last."""
        n, m, rows, c = self._shape
        if start is None:
            start = self.x.new_zeros(n, m, rows, c)
        found = minimise(
            self._objective, start.reshape(n * m, -1), self._precondition, tol=tol, max_iter=max_iter
        )
        weights = found.x.view(n, m, rows, c)
        return Fitted(
            weights[:, :, :-1].transpose(-1, -2),
            weights[:, :, -1],
            found.converged.view(n, m),
            found.n_iters.view(n, m),
        )

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return len(self.x), len(self.penalties), self.x.shape[-1] + 1, self.n_columns

    def _objective(self, flat: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        n, m, rows, c = self._shape
        # Tasks share the product with their features; one that no problem waits for is left out.
        wanted = which.view(n, m).any(0)
        tasks = None if bool(wanted.all()) else wanted.nonzero()[:, 0]
        weights = flat.view(n, m, rows, c)
        chosen = weights if tasks is None else weights[:, tasks]
        y = self.y if tasks is None else self.y[tasks]
        value, gradient = self._loss(chosen, y)
        penalties = self.penalties if tasks is None else self.penalties[tasks]
        slopes = chosen[:, :, :-1]
        value += 0.5 * penalties.double() * slopes.square().sum((-1, -2)).double() if _wide(flat) else (
            0.5 * penalties * slopes.square().sum((-1, -2))
        )
        gradient[:, :, :-1] += penalties[:, None, None] * slopes
        if tasks is not None:
            values = value.new_zeros(n, m)
            values[:, tasks] = value
            gradients = torch.zeros_like(weights)
            gradients[:, tasks] = gradient
            value, gradient = values, gradients
        return value.view(-1), gradient.reshape(n * m, -1)

    def _loss(self, weights: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [problem, task] and its gradient [problem, task, width + 1, column], a piece of rows at a time."""
        n, m, rows, c = weights.shape
        joined = weights.transpose(1, 2).reshape(n, rows, m * c)
        slopes, offset = joined[:, :-1].contiguous(), joined[:, None, -1]
        value = torch.zeros(n, m, dtype=torch.float64 if _wide(weights) else weights.dtype)
        value = value.to(weights.device)
        gradient = torch.zeros_like(joined)
        for i, j in self._pieces(n):
            x = self.x[:, i:j]
            logits = torch.baddbmm(offset, x, slopes).view(n, j - i, m, c)
            residual = self._residual(logits, y[:, i:j], value).view(n, j - i, m * c)
            gradient[:, :-1].baddbmm_(x.transpose(1, 2), residual)
            gradient[:, -1] += residual.sum(1)
        return value, gradient.view(n, rows, m, c).transpose(1, 2)

    def _residual(self, logits: Tensor, y: Tensor, value: Tensor) -> Tensor:
        """∂loss/∂logits [problem, token, task, column] of a piece; its loss is added to `value`."""
        if self.link == "sigmoid":
            y = y.transpose(0, 1)
            loss = torch.nn.functional.softplus(logits) - y * logits
            value += loss.sum((1, 3), dtype=value.dtype)
            return logits.sigmoid() - y
        said = logits.log_softmax(-1)
        at = y.t()[None, :, :, None].expand(len(logits), -1, -1, 1)
        value -= said.gather(-1, at)[..., 0].sum(1, dtype=value.dtype)
        return said.exp_().scatter_add_(-1, at, said.new_full((), -1.0).expand(at.shape))

    def _pieces(self, n: int) -> list[tuple[int, int]]:
        elements = _CHUNK_ELEMENTS.get(self.x.device.type, _CHUNK_ELSEWHERE)
        size = max(64, elements // (n * self.x.shape[-1]))
        total = self.x.shape[1]
        return [(i, min(i + size, total)) for i in range(0, total, size)]

    def _precondition(self, flat: Tensor) -> Tensor:
        """Gradients times an inverse Hessian of average curvature: (w_c XᵀX + penalty)⁻¹ for each class c.

        The Hessian's blocks are Xᵀ diag(p_c(1 − p_c)) X; w_c is p_c(1 − p_c) at the classes' shares. It
        is a bound of Böhning (1992) made tighter, which L-BFGS then corrects.
        """
        n, m, rows, c = self._shape
        factor, curvature = self._factor
        gradient = flat.view(n, m, rows, c)
        root = curvature.sqrt()[:, None]
        inner = torch.cholesky_solve(gradient[:, :, :-1] / root, factor) / root
        offset = gradient[:, :, -1:] / (curvature[:, None] * self.x.shape[1])
        return torch.cat([inner, offset], 2).reshape(n * m, -1)

    @cached_property
    def _factor(self) -> tuple[Tensor, Tensor]:
        """Cholesky factors [problem, task, width, width] and curvatures w [task, column]."""
        _, total, width = self.x.shape
        share = (self.y if self.link == "sigmoid" else self._one_hot()).mean(1)
        curvature = (share * (1 - share)).clamp(min=1 / (4 * total))
        taken = min(total, max(_ROWS_OF_HESSIAN * width, 512))
        stride = total // taken
        rows = self.x[:, : stride * taken : stride]
        gram = (rows.transpose(1, 2) @ rows) * (total / taken)
        ridge = self.penalties / curvature.mean(-1) + 1e-5 * total
        eye = torch.eye(width, dtype=gram.dtype, device=gram.device)
        return torch.linalg.cholesky(gram[:, None] + ridge[:, None, None] * eye), curvature

    def _one_hot(self) -> Tensor:
        return torch.nn.functional.one_hot(self.y, self.n_columns).to(self.x.dtype)


def _wide(like: Tensor) -> bool:
    """Whether sums over tokens can be kept in float64 there."""
    return like.device.type != "mps"
