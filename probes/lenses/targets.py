"""Which token a rank follows: the next one, one named for all positions, or one given per position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from abbie_lens.errors import InputError


def target_ids(
    model: Any,
    targets: str | int | Sequence[Sequence[int]] | Tensor | None,
    following: Tensor,
    n_vocab: int,
) -> tuple[Tensor, str]:
    """(ids [batch, pos], -1 for none; name of the target).

    following: [batch, pos] next tokens, used where `targets` is None.
    Errors: InputError for a string that is no single token, an id outside the vocabulary, another shape.
    """
    if targets is None:
        return following, "next token"
    if isinstance(targets, str):
        targets = single_token(model, targets)
    ids = torch.as_tensor(targets, device=following.device)
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise InputError(f"targets: {ids.dtype}; expected a string or integer token ids.")
    if ids.ndim and ids.shape != following.shape:
        raise InputError(
            f"targets: shape {tuple(ids.shape)}; expected {tuple(following.shape)}, [batch, pos]."
        )
    if ids.min() < -1 or ids.max() >= n_vocab or (not ids.ndim and ids < 0):
        raise InputError(
            f"targets: ids from {int(ids.min())} to {int(ids.max())}; the vocabulary has 0 to"
            f" {n_vocab - 1}, and -1 means no target."
        )
    if ids.ndim:
        return ids.long(), "given target"
    name = model.to_str_tokens(ids[None])[0]
    return ids.long().expand_as(following).clone(), f"token {name!r}"


def single_token(model: Any, text: str) -> int:
    """The id of the one token that `text` is. Errors: InputError that shows the pieces if it is more."""
    if text == "":
        raise InputError("targets='': expected a text that is one token.")
    ids = model.tokenizer.encode(text, add_special_tokens=False) if model.tokenizer else []
    if len(ids) != 1:
        pieces = ", ".join(map(repr, model.to_str_tokens(ids))) if ids else "no token"
        raise InputError(
            f"targets={text!r}: expected a text that is one token, this is {pieces}."
            " Mind the leading space, or give an id."
        )
    return ids[0]


def random_controls(target: Tensor, n_vocab: int, seed: int) -> Tensor:
    """[batch, pos] token ids, uniform over the vocabulary without the position's target."""
    if n_vocab < 2:
        return torch.full_like(target, -1)
    # On the CPU, so that the control is the same on every device.
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(n_vocab - 1, target.shape, generator=generator).to(target.device)
    # Skipping over the target keeps the draw uniform over the others.
    return torch.where((target >= 0) & (drawn >= target), drawn + 1, drawn)
