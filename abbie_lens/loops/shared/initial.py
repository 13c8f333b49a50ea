"""Initial states that are drawn: truncated normal, a function of (seed, position) alone.

So a token's h_0 is the same whether the tokens before it are cached, padded, or run with it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from abbie_lens.loops.base import Start
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State

_BLOCK = 64
"""Positions drawn from one stream; a longer text draws more streams and changes none."""
_WIDTH = 3.0
"""Truncation, in standard deviations."""


def initial_state(
    model: HookedLoopedTransformer, state: State, start: Start, like: Tensor, std: float
) -> Tensor:
    """h_0 in the shape and dtype of `like` [batch, pos, d_model]: the given one, or std * TruncN(0, 1, ±3).

    Drawn from the seed, by position; in training without a seed anew for every row; 0 everywhere where std is 0.
    """
    if start.initial_state is not None:
        return start.initial_state.to(like)
    if std == 0:
        return torch.zeros_like(like)
    if model.training and start.seed is None:
        return fresh_state(like, std)
    h = drawn_state(state.context.positions, like.shape[-1], std, start.seed or 0, like.dtype)
    return h.expand_as(like)


def drawn_state(
    positions: Tensor, d_model: int, std: float, seed: int, dtype: torch.dtype
) -> Tensor:
    """std * TruncN(0, 1, ±3) at each position: [batch or 1, pos] -> [batch or 1, pos, d_model]."""
    n_blocks = int(positions.max()) // _BLOCK + 1
    table = np.concatenate([_block(seed, block, d_model) for block in range(n_blocks)])
    return (torch.from_numpy(table).to(positions.device)[positions] * std).to(dtype)


def fresh_state(like: Tensor, std: float) -> Tensor:
    """The same distribution from torch's global generator, another draw for every row: for training."""
    return torch.nn.init.trunc_normal_(
        torch.empty_like(like), std=std, a=-_WIDTH * std, b=_WIDTH * std
    )


def _block(seed: int, block: int, d_model: int) -> np.ndarray:
    key = np.array([seed % 2**64, block], dtype=np.uint64)
    generator = np.random.Generator(np.random.Philox(key=key))
    values = generator.standard_normal((_BLOCK, d_model), dtype=np.float32)
    while (outside := np.abs(values) > _WIDTH).any():
        values[outside] = generator.standard_normal(int(outside.sum()), dtype=np.float32)
    return values
