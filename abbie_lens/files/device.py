"""Where a model goes and in which precision: cuda, mps or cpu; dtypes by name."""

from __future__ import annotations

import torch

from abbie_lens.config import DTYPES
from abbie_lens.errors import InputError, nearest


def resolve_device(device: torch.device | str | None = None) -> torch.device:
    """The device named, or with None or "auto" the best one here: cuda, then mps, then cpu.

    Errors: InputError for a device that torch doesn't know or that this machine lacks.
    """
    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if device is None or device == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise InputError(f"device={device!r}: expected auto, cuda, cuda:N, mps or cpu.") from error
    n_cuda = torch.cuda.device_count() if has_cuda else 0
    if resolved.type == "cuda" and (resolved.index or 0) >= n_cuda:
        raise InputError(f"device={str(device)!r}: this machine has {n_cuda} CUDA devices.")
    if resolved.type == "mps" and not has_mps:
        raise InputError(f"device={str(device)!r}: this machine has no MPS device.")
    return resolved


def resolve_dtype(dtype: torch.dtype | str | None) -> str | None:
    """The dtype's name, as configs spell it; None stays None. Errors: InputError for another one."""
    if dtype is None:
        return None
    name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise InputError(
            f"dtype={name!r}: expected one of {', '.join(DTYPES)}.{nearest(name, DTYPES)}"
        )
    return name
