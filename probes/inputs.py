"""What an analysis runs on: a text, texts or token ids, checked and labelled once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError


@dataclass(frozen=True)
class Inputs:
    """A checked batch."""

    tokens: Tensor
    """[batch, pos] token ids on the model's device."""
    mask: Tensor | None
    """[batch, pos] 1 for tokens, 0 for padding; None without padding."""
    valid: np.ndarray
    """[batch, pos] bool, the same on the host: True for tokens."""
    str_tokens: tuple[tuple[str, ...], ...]
    """[batch][pos] raw token strings, padding included."""
    n_iters: int
    """r: Body applications to show."""


def prepare(
    model: Any, text_or_tokens: Any, n_iters: int, attention_mask: Any = None, *, least: int = 0
) -> Inputs:
    """Text, list of texts, or ids [pos] or [batch, pos], ready for `model.begin`.

    Several texts are padded and masked; `attention_mask` [batch, pos] is for ids of one's own.
    Errors: InputError naming the argument (empty text, ids outside the vocabulary, n_iters < least,
    a mask that does not fit or leaves a row without a token).
    """
    if isinstance(n_iters, bool) or not isinstance(n_iters, int) or n_iters < least:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= {least}.")
    is_text = isinstance(text_or_tokens, str) or (
        isinstance(text_or_tokens, list | tuple) and any(isinstance(t, str) for t in text_or_tokens)
    )
    if is_text and attention_mask is not None:
        raise InputError("attention_mask: given with text, which brings its own; pass token ids.")
    tokens, mask = model.as_tokens(text_or_tokens, attention_mask)
    if mask is not None and tuple(mask.shape) != tuple(tokens.shape):
        raise InputError(
            f"attention_mask: shape {tuple(mask.shape)}, but the tokens have {tuple(tokens.shape)}."
        )
    if mask is not None and bool(mask.bool().all()):
        mask = None
    valid = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
    if not bool(valid.any(-1).all()):
        raise InputError("attention_mask: a row is all padding; every sequence needs a token.")
    # A long text repeats itself, and a label is of the token alone: each is read once.
    ids, of = tokens.unique(return_inverse=True)
    known = model.to_str_tokens(ids)
    labels = tuple(tuple(known[i] for i in row) for row in of.tolist())
    return Inputs(tokens, mask, valid.cpu().numpy(), labels, n_iters)
