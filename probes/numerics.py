"""Norms, directions and angles that neither overflow nor pretend: max-scaled, in float64, on the host.

A doubling family passes norm 2^63 after about 62 iterations; from there on the squares inside a
float32 norm are infinite. Here every vector is divided by its largest entry first.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

SQUARED = 1e-140, 1e150
"""Norms between which no square has left float64."""


def host(x: Tensor) -> np.ndarray:
    """`x` as float64 on the host (MPS has no float64, NumPy no bfloat16)."""
    return x.detach().cpu().double().numpy()


def norm(x: np.ndarray) -> np.ndarray:
    """[..., d] -> [...] Euclidean norm; NaN where `x` holds a NaN or an infinity."""
    with np.errstate(over="ignore", invalid="ignore"):
        plain = np.asarray(np.sqrt(np.einsum("...d,...d->...", x, x)))
    # Nearly all vectors can be squared as they are, in a fraction of the time.
    odd = ~((plain > SQUARED[0]) & (plain < SQUARED[1]))
    if odd.any():
        plain[odd] = _scaled_norm(x[odd])
    return plain


def _scaled_norm(x: np.ndarray) -> np.ndarray:
    largest = _largest(x)
    scaled = x / np.where(largest > 0, largest, 1.0)
    return (np.sqrt((scaled**2).sum(-1, keepdims=True)) * largest)[..., 0]


def unit(x: np.ndarray) -> np.ndarray:
    """[..., d] -> [..., d] u(x) = x / ‖x‖; NaN for the zero vector and where `x` is not finite."""
    largest = _largest(x)
    scaled = x / np.where(largest > 0, largest, np.nan)
    return scaled / np.sqrt((scaled**2).sum(-1, keepdims=True))


def cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[..., d], [..., d] -> [...] cosine of the angle between; NaN where a direction is undefined."""
    return np.clip((unit(x) * unit(y)).sum(-1), -1.0, 1.0)


def mean(x: np.ndarray, axis: int | tuple[int, ...] = 0) -> np.ndarray:
    """Mean over `axis` of what is not NaN; NaN where all is."""
    defined = ~np.isnan(x)
    n = defined.sum(axis)
    return np.where(n > 0, np.where(defined, x, 0).sum(axis) / np.maximum(n, 1), np.nan)


def ratio(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """x / y, NaN where y is 0."""
    return x / np.where(y == 0, np.nan, y)


def resolution(dtype: torch.dtype) -> float:
    """Unit roundoff ε/2: how far rounding a vector to `dtype` may move its direction.

    Each entry moves by at most ε/2 of itself, so the vector moves by at most ε/2 of its norm. A smaller
    step between stored states cannot be told from rounding.
    """
    return torch.finfo(dtype).eps / 2


def largest_norm(dtype: torch.dtype) -> float:
    """Norm up to which the model's own norms are to be trusted: 2^63 for float32 and below.

    RMSNorm squares its input, in float32 for half precision; beyond this the sum may be infinite and
    the norm returns 0.
    """
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    return float(np.sqrt(torch.finfo(wide).max) / 2)


def _largest(x: np.ndarray) -> np.ndarray:
    """[..., d] -> [..., 1] largest absolute entry; NaN where an entry is not finite."""
    largest = np.abs(x).max(-1, keepdims=True)
    return np.where(np.isfinite(largest), largest, np.nan)
