"""The scaler: mean and deviation of the training tokens, block sums added up in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

ROWS = 2048
_FAST_ROWS = 512
"""Rows at once in float32: half a megabyte of states stays in the cache."""
_LEAST = 1e-30
"""Mean square below which float32 squares are no longer exact."""


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


def moved(x: Tensor, device: str | torch.device) -> Tensor:
    """x on `device`; in float32 where there is no float64."""
    narrow = torch.device(device).type == "mps" and x.dtype == torch.float64
    return x.to(device, torch.float32) if narrow else x.to(device)


def scaler(x: Tensor) -> Scaler:
    """Fit on x [token, width]; NaN everywhere if x is not finite."""
    if x.device.type == "mps":  # no float64 there
        x = x.cpu()
    n = len(x)
    if x.device.type == "cpu" and x.dtype != torch.float64:
        # Sums of a few hundred differences lose nothing in float32, unless their squares leave its range.
        shift = x[:_FAST_ROWS].float().mean(0).double()
        first, second = _sums(x, shift, torch.float32, _FAST_ROWS)
        if bool(((second > n * _LEAST) & torch.isfinite(second)).all()):
            return _scaler(n, shift, first, second)
    shift = x[:ROWS].double().mean(0)
    return _scaler(n, shift, *_sums(x, shift, torch.float64, ROWS))


def _sums(x: Tensor, shift: Tensor, dtype: torch.dtype, at_once: int) -> tuple[Tensor, Tensor]:
    """[width] sums of x − shift and of its squares, float64; differences are taken in `dtype`."""
    first, second, here = torch.zeros_like(shift), torch.zeros_like(shift), shift.to(dtype)
    for i in range(0, len(x), at_once):
        rows = x[i : i + at_once].to(dtype) - here
        first += rows.sum(0)
        second += rows.square_().sum(0)
    return first, second


def _scaler(n: int, shift: Tensor, first: Tensor, second: Tensor) -> Scaler:
    mean = first / n
    variance = second / n - mean.square()
    # what rounding leaves of a constant is no deviation
    noise = 1e-14 * (second / n + shift.square())
    scale = torch.where(variance > noise, variance, torch.ones_like(variance)).sqrt()
    return Scaler((mean + shift).cpu().numpy(), scale.cpu().numpy())
