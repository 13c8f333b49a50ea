"""Ridge regression in closed form, many at once: one Gram matrix a set of features, one Cholesky factor a penalty."""

from __future__ import annotations

import torch
from torch import Tensor


def ridge(x: Tensor, y: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [problem, penalty, output, width] and intercepts [problem, penalty, output].

    x: [problem, token, width] standardised; y: [token, output] in x's dtype. Minimises
    Σ‖y − Wx − b‖² + penalty ‖W‖², scikit-learn's Ridge with alpha = penalty.
    """
    mean = y.mean(0)
    gram = x.transpose(1, 2) @ x
    moment = x.transpose(1, 2) @ (y - mean)
    if x.device.type != "mps":
        gram, moment = gram.double(), moment.double()
    eye = torch.eye(x.shape[-1], dtype=gram.dtype, device=x.device)
    matrices = gram[:, None] + penalties.to(gram)[:, None, None] * eye
    factor, _ = torch.linalg.cholesky_ex(matrices)
    coef = torch.cholesky_solve(moment[:, None].expand(-1, len(penalties), -1, -1), factor)
    coef = coef.transpose(-1, -2).to(x.dtype)
    centre = x.mean(1)[:, None, :, None]
    return coef, mean - (coef @ centre)[..., 0]
