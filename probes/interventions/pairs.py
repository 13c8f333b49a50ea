"""Pairs of prompts, clean and corrupt, and which position of one stands for which of the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.inputs import Inputs, prepare


@dataclass(frozen=True)
class Pairs:
    """Checked prompts, a clean and a corrupt one in every row."""

    clean: Inputs
    corrupt: Inputs
    aligned: np.ndarray
    """[pair, pos] the clean position that stands for each corrupt one; -1 for none."""
    differs: np.ndarray
    """[pair, pos] bool: the two tokens there are not the same."""

    def from_clean(self, x: Tensor) -> Tensor:
        """Clean values [pair, pos, ...] at the places of the corrupt ones; anything where none stands for it."""
        index = torch.from_numpy(self.aligned).clamp_min(0).to(x.device)
        rows = torch.arange(len(index), device=x.device)[:, None]
        return x[rows, index]


def prepare_pairs(
    model: Any,
    clean: Any,
    corrupt: Any,
    n_iters: int,
    aligned: Sequence[tuple[int, int]] | None = None,
) -> Pairs:
    """Texts, lists of texts, or token ids, paired row by row.

    `aligned`: (clean, corrupt) positions that stand for each other in every pair, where prompts differ in length.
    Errors: InputError for another number of prompts, prompts of different length, positions outside a prompt.
    """
    a, b = (prepare(model, text, n_iters) for text in (clean, corrupt))
    if len(a.tokens) != len(b.tokens):
        raise InputError(
            f"clean, corrupt: {len(a.tokens)} and {len(b.tokens)} prompts; expected as many of each."
        )
    if aligned is None:
        for n, (left, right) in enumerate(zip(a.valid, b.valid, strict=True)):
            if left.sum() != right.sum():
                raise InputError(
                    f"clean, corrupt: pair {n} has {left.sum()} and {right.sum()} tokens; patching needs prompts of the "
                    "same length, or aligned=[(clean, corrupt), …] positions."
                )
        where = np.where(b.valid, np.arange(b.valid.shape[1]), -1)
    else:
        where = np.full(b.valid.shape, -1)
        for pair in aligned:
            i, j = _positions(pair)
            for n in range(len(where)):
                if not (_is_token(a.valid[n], i) and _is_token(b.valid[n], j)):
                    raise InputError(
                        f"aligned: {pair!r} is no token of both prompts of pair {n}, which have {a.valid[n].sum()} and "
                        f"{b.valid[n].sum()} tokens."
                    )
            where[:, j] = i
    ids, others = a.tokens.cpu().numpy(), b.tokens.cpu().numpy()
    same = np.take_along_axis(ids, where.clip(0), 1) == others
    pairs = Pairs(a, b, where, (where >= 0) & ~same)
    if not pairs.differs.any() and aligned is None:
        raise InputError("clean, corrupt: the two prompts are the same tokens; nothing to patch.")
    return pairs


def _positions(pair: Any) -> tuple[int, int]:
    try:
        i, j = pair
        return int(i), int(j)
    except (TypeError, ValueError):
        raise InputError(f"aligned: {pair!r}; expected a (clean, corrupt) position.") from None


def _is_token(valid: np.ndarray, position: int) -> bool:
    return 0 <= position < len(valid) and bool(valid[position])
