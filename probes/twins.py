"""The model under study in another dtype."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Any

import torch


def twin(model: Any, dtype: torch.dtype) -> Any:
    """`model` in another dtype, on the CPU where the device has no float64; shares the tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    with getattr(model, "lock", None) or nullcontext():
        copied = copy.deepcopy(model, {id(tokenizer): tokenizer})
    if dtype == torch.float64 and model.device.type == "mps":
        copied = copied.to("cpu")
    return copied.to(dtype)


def in_float64(model: Any) -> Any:
    """`model` itself where it computes in float64, else a copy that does; it takes 8 bytes a parameter."""
    return model if model.dtype == torch.float64 else twin(model, torch.float64)
