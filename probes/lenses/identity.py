"""Whose lens it is: a model's weights, and what they become when they are loaded in another precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from abbie_lens.files.hashing import cast_hash

CASTS = "casts"
DTYPES = ("float32", "bfloat16", "float16")
"""Precisions in which one stored model is loaded."""


def identity(model: Any) -> dict[str, Any]:
    """`ModelInfo.to_dict`, and the weight hash that the same weights have in each other precision, by dtype.

    So a lens knows its model in bfloat16 without accepting another: nothing has to be remembered of where weights came from.
    """
    info = model.info()
    weights = getattr(model, "source", model)
    others = [name for name in DTYPES if name != info.dtype]
    return info.to_dict() | {CASTS: {n: cast_hash(weights, getattr(torch, n)) for n in others}}


def weights_known(of: Mapping[str, Any]) -> set[str]:
    """The weight hashes that count as this model's."""
    casts = of.get(CASTS) or {}
    return {of["weight_hash"], *(casts.values() if isinstance(casts, Mapping) else ())}
