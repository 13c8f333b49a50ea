"""From what the final norm reads to predictions, and what is asked of them: what lenses and halting replay share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

MAX_CHUNK = 2**21
"""Most numbers of a float32 [rows, d_vocab] block that statistics are taken of at once (8 MiB)."""


def logits_of(model: Any, x: Tensor) -> Tensor:
    """[..., d_vocab] logits of what the final norm reads, x [..., d_model]."""
    with getattr(model, "lock", None) or contextlib.nullcontext():
        logits = model.unembed(model.ln_final(x))
    factor = getattr(model, "logit_factor", 1.0)
    return logits if factor == 1 else logits * factor


def next_tokens(tokens: Tensor, mask: Tensor | None) -> Tensor:
    """[batch, pos] the token that follows each position; -1 where none does."""
    following = torch.full_like(tokens, -1)
    following[:, :-1] = tokens[:, 1:]
    if mask is not None:
        real = mask.bool()
        following[:, :-1].masked_fill_(~(real[:, :-1] & real[:, 1:]), -1)
        following[:, -1] = -1
    return following


def nll(log_probs: Tensor, targets: Tensor) -> Tensor:
    """[...] -log p(target) in nats; NaN where the target is -1."""
    chosen = log_probs.gather(-1, targets.clamp_min(0)[..., None])[..., 0]
    return (-chosen).masked_fill(targets < 0, float("nan"))


def rank(log_probs: Tensor, targets: Tensor) -> Tensor:
    """[...] 1 + how many tokens are strictly more probable; NaN where the target is -1 or p is NaN."""
    chosen = log_probs.gather(-1, targets.clamp_min(0)[..., None])
    ranks = (log_probs > chosen).sum(-1).float() + 1
    return ranks.masked_fill((targets < 0) | chosen[..., 0].isnan(), float("nan"))


def top_token(logits: Tensor) -> Tensor:
    """[...] most probable token id; -1 where the logits hold NaN or +infinity."""
    broken = logits.isnan().any(-1) | logits.isposinf().any(-1)
    return logits.argmax(-1).masked_fill(broken, -1)


def row_chunks(n_rows: int, width: int) -> Iterator[slice]:
    """Slices of `n_rows` rows of `width` numbers, none above MAX_CHUNK numbers."""
    size = max(1, MAX_CHUNK // width)
    for start in range(0, n_rows, size):
        yield slice(start, start + size)
