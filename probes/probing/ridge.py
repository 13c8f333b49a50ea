"""Ridge regression in closed form, many at once: one Gram matrix a set of features, one Cholesky factor a penalty."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from probes.probing.fitted import Fitted

_BLOCKS, _LEAST_BLOCK = 4, 32


class Ridge:
    """Minimises Σ_tokens ‖y − Wx − b‖² + penalty ‖W‖², the intercept free: scikit-learn's Ridge, alpha = penalty."""

    def __init__(self, x: Tensor) -> None:
        """x: [problem, token, width] standardised, so that the mean over tokens is 0."""
        self.x = x

    @cached_property
    def gram(self) -> Tensor:
        """[problem, width, width] XᵀX, in float64 where there is one."""
        gram = _gram(self.x)
        return gram if gram.device.type == "mps" else gram.double()

    def fit(self, y: Tensor, penalties: Tensor, **_: object) -> Fitted:
        """y: [task, token, output]. penalties: [problem, task]."""
        y = y.to(self.x)
        mean = y.mean(1)
        m, total, c = y.shape
        joined = (y - mean[:, None]).transpose(0, 1).reshape(total, m * c)
        moment = (self.x.transpose(1, 2) @ joined).view(len(self.x), -1, m, c).transpose(1, 2)
        eye = torch.eye(self.gram.shape[-1], dtype=self.gram.dtype, device=self.x.device)
        matrices = self.gram[:, None] + penalties.to(self.gram)[..., None, None] * eye
        factor, failed = torch.linalg.cholesky_ex(matrices)
        coef = torch.cholesky_solve(moment.to(factor), factor).transpose(-1, -2).to(self.x)
        intercept = mean.expand(len(self.x), -1, -1)
        return Fitted(coef, intercept, failed == 0, torch.ones_like(failed))


def _gram(x: Tensor) -> Tensor:
    """[problem, width, width] XᵀX; on CPUs the upper blocks alone, which are little more than half of the work."""
    width = x.shape[-1]
    if x.device.type != "cpu" or width < _BLOCKS * _LEAST_BLOCK:
        return x.transpose(1, 2) @ x
    gram, size = x.new_empty(len(x), width, width), -(-width // _BLOCKS)
    for i in range(0, width, size):
        upper = x[..., i : i + size].transpose(1, 2) @ x[..., i:]
        gram[:, i : i + size, i:] = upper
        gram[:, i:, i : i + size] = upper.transpose(1, 2)
    return gram
