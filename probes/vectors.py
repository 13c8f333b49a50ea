"""Norms where the model's states are: as `probes.numerics`, in float64 on the device, without copies for most vectors."""

from __future__ import annotations

import torch
from torch import Tensor

from probes.numerics import SQUARED


def place(device: torch.device) -> torch.device:
    """`device`, or the host if it has no float64 (MPS)."""
    return torch.device("cpu") if device.type == "mps" else device


def norm(x: Tensor) -> Tensor:
    """[..., d] -> [...] Euclidean norm of a float64 tensor; NaN where `x` holds a NaN or an infinity."""
    plain = torch.linalg.vector_norm(x, dim=-1)
    odd = ~((plain > SQUARED[0]) & (plain < SQUARED[1]))
    if bool(odd.any()):
        plain[odd] = _scaled_norm(x[odd])
    return plain


def ratio(x: Tensor, y: Tensor) -> Tensor:
    """x / y, NaN where y is 0."""
    return x / y.masked_fill(y == 0, torch.nan)


def _scaled_norm(x: Tensor) -> Tensor:
    largest = x.abs().amax(-1)
    largest = largest.masked_fill(~largest.isfinite(), torch.nan)
    scaled = x / torch.where(largest > 0, largest, 1.0)[..., None]
    return torch.linalg.vector_norm(scaled, dim=-1) * largest
