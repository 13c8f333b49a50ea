"""The scaler: mean and deviation of the training tokens, summed in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROWS = 2048


@dataclass(frozen=True)
class Scaler:
    """x ↦ (x − mean) / scale; scale is 1 where a feature never changes."""

    mean: np.ndarray
    """[width] float64."""
    scale: np.ndarray
    """[width] float64."""

    def apply(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Standardised x [token, width] in `dtype`, on its device; x itself may be overwritten."""
        # A float32 state loses nothing here: x − mean has the error that x had, and division, unlike
        # a product with 1/scale, neither overflows nor underflows for states of a doubling loop.
        inner = torch.float64 if x.dtype == torch.float64 else torch.float32
        mean, scale = (
            torch.from_numpy(each).to(x.device, inner)
            if x.device.type != "mps"
            else torch.from_numpy(each.astype(np.float32)).to(x.device)
            for each in (self.mean, self.scale)
        )
        return x.to(inner).sub_(mean).div_(scale).to(dtype)


def scaler(x: Tensor) -> Scaler:
    """Fit on x [token, width]; NaN everywhere if x is not finite."""
    if x.device.type == "mps":  # no float64 there
        x = x.cpu()
    n, width = x.shape
    shift = x[:ROWS].double().mean(0)
    first, second = (torch.zeros(width, dtype=torch.float64, device=x.device) for _ in range(2))
    for i in range(0, n, ROWS):
        rows = x[i : i + ROWS].double() - shift
        first += rows.sum(0)
        second += rows.square_().sum(0)
    mean = first / n
    variance = second / n - mean.square()
    # what rounding leaves of a constant is no deviation
    noise = 1e-14 * (second / n + shift.square())
    scale = torch.where(variance > noise, variance, torch.ones_like(variance)).sqrt()
    return Scaler((mean + shift).cpu().numpy(), scale.cpu().numpy())
