"""Penalised logistic regression, many at once: [problem] sets of features times [task] labels and penalties."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from probes.probing.curvature import Curvature
from probes.probing.fitted import MAX_ITER, TOL, Fitted
from probes.probing.lbfgs import minimise

_CHUNK = {"cpu": 1 << 19}
"""Features in a piece of rows: on CPUs as many as stay in the cache between their two products."""
_CHUNK_ELSEWHERE = 1 << 28


class Logistic:
    """Minimises Σ_tokens loss + penalty/2 · ‖W‖², the intercept free: scikit-learn's objective, C = 1/penalty.

    softmax: one of `n_columns` classes for each token; otherwise each column is 0 or 1 for itself.
    """

    def __init__(self, x: Tensor, n_columns: int, softmax: bool) -> None:
        """x: [problem, token, width] standardised."""
        self.x, self.n_columns, self.softmax = x, n_columns, softmax

    def fit(
        self, y: Tensor, penalties: Tensor, *, tol: float = TOL, max_iter: int = MAX_ITER
    ) -> Fitted:
        """y: [task, token] class numbers, or [task, token, column] of 0 and 1. penalties: [problem, task]."""
        job = Job(self, y if self.softmax else y.to(self.x), penalties.to(self.x))
        n, m, rows, c = job.shape
        start = self.x.new_zeros(n * m, rows * c)
        found = minimise(job.objective, start, Curvature(job), tol=tol, max_iter=max_iter)
        weights = found.x.view(n, m, rows, c)
        if self.softmax:
            # the same for all classes says nothing, and a sum of 0 is the least penalty
            weights = weights - weights.mean(-1, keepdim=True)
        return Fitted(
            weights[:, :, :-1].transpose(-1, -2),
            weights[:, :, -1],
            found.converged.view(n, m),
            found.n_iters.view(n, m),
        )

    def pieces(self) -> list[tuple[int, int]]:
        """Ranges of tokens that are worked on together."""
        n, total, width = self.x.shape
        size = max(64, _CHUNK.get(self.x.device.type, _CHUNK_ELSEWHERE) // (n * width))
        return [(i, min(i + size, total)) for i in range(0, total, size)]


@dataclass(frozen=True)
class Job:
    """One fit; a parameter of (problem, task) is [width + 1, column], the intercept last."""

    of: Logistic
    y: Tensor
    penalties: Tensor

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Problems, tasks, rows and columns of the parameters."""
        n, _, width = self.of.x.shape
        return n, self.penalties.shape[1], width + 1, self.of.n_columns

    def objective(self, flat: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
        """Value and gradient of the penalised loss; tasks that no problem waits for are left out."""
        n, m, rows, c = self.shape
        weights = flat.view(n, m, rows, c)
        tasks = which.view(n, m).any(0).nonzero()[:, 0]
        chosen, penalties = weights[:, tasks], self.penalties[:, tasks]
        loss, slope = self._loss(chosen, self.y[tasks])
        slope[:, :, :-1] += penalties[..., None, None] * chosen[:, :, :-1]
        loss += 0.5 * penalties * chosen[:, :, :-1].square().sum((-1, -2))
        value, gradient = loss.new_zeros(n, m), torch.zeros_like(weights)
        value[:, tasks], gradient[:, tasks] = loss, slope
        return value.view(-1), gradient.view(n * m, -1)

    def _loss(self, weights: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss [problem, task] and its gradient [problem, task, width + 1, column], piece by piece."""
        n, m, rows, c = weights.shape
        joined = weights.transpose(1, 2).reshape(n, rows, m * c)
        slopes, offset = joined[:, :-1].contiguous(), joined[:, -1:]
        wide = weights.dtype if weights.device.type == "mps" else torch.float64
        value = torch.zeros(n, m, dtype=wide, device=weights.device)
        gradient = torch.zeros_like(joined)
        for i, j in self.of.pieces():
            x = self.of.x[:, i:j]
            logits = torch.baddbmm(offset, x, slopes).view(n, j - i, m, c)
            residual = self._residual(logits, y[:, i:j], value).view(n, j - i, m * c)
            gradient[:, :-1].baddbmm_(x.transpose(1, 2), residual)
            gradient[:, -1] += residual.sum(1)
        return value, gradient.view(n, rows, m, c).transpose(1, 2).contiguous()

    def _residual(self, logits: Tensor, y: Tensor, value: Tensor) -> Tensor:
        """∂loss/∂logits [problem, token, task, column] of a piece; its loss is added to `value`."""
        if not self.of.softmax:
            y = y.transpose(0, 1)
            loss = torch.nn.functional.softplus(logits) - y * logits
            value += loss.sum((1, 3), dtype=value.dtype)
            return logits.sigmoid() - y
        said = logits.log_softmax(-1)
        at = y.t()[None, :, :, None].expand(len(logits), -1, -1, 1)
        value -= said.gather(-1, at)[..., 0].sum(1, dtype=value.dtype)
        return said.exp_().scatter_add_(-1, at, said.new_full((), -1.0).expand(at.shape))
