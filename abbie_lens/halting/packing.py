"""The context of packed rows: where they stand, whom they see, and which keys their queries need at all."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.context import Context
from abbie_lens.rows import Rows

QUERIES = 64
"""Fewest queries of a row of the batch that are a stretch of their own."""
STRETCHES = 8
"""Most stretches: each is a call of the kernel."""
KEYS = 32
"""Keys are taken by so many: kernels round those beyond the last whole vector otherwise."""


@dataclass(frozen=True)
class Computed:
    """How much one stage computed at once."""

    rows: int
    """Tokens, repeated ones counted."""
    pairs: int
    """Pairs of a query and a key in attention."""


def packed(context: Context, rows: Rows, dtype: torch.dtype) -> Context:
    """The context of some rows of what `context` is of; its keys are all those of its mask, or else of the store."""
    batch, pos = rows.shape
    take = lambda x: rows.take(x.expand(batch, *x.shape[1:]))  # noqa: E731
    mask = context.mask
    if mask is None:
        keys = keys_of(context, pos)
        whole = torch.ones(1, 1, pos, keys, dtype=torch.bool, device=rows.index.device)
        mask = whole.tril(keys - pos)
    asking = rows.side_by_side(rows.packed[None] % pos)
    if mask.shape[0] == 1:
        mask = mask[0, 0][asking]
    else:
        mask = mask[:, 0].gather(1, asking[..., None].expand(-1, -1, mask.shape[-1]))
    rotary = None if context.rotary is None else (take(context.rotary[0]), take(context.rotary[1]))
    tokens = None if context.tokens is None else take(context.tokens)
    pieces = _stretches(mask)
    mask = mask[:, None]
    return context.replace(
        positions=take(context.positions),
        mask=mask,
        bias=torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, float("-inf")),
        pieces=pieces,
        rotary=rotary,
        tokens=tokens,
        rows=rows,
    )


def keys_of(context: Context, pos: int) -> int:
    """Keys that `pos` new tokens may see, themselves among them."""
    return pos if context.store is None else context.store.n_past + pos


def computed(context: Context, tokens: Tensor) -> Computed:
    """What a stage computes with this context, of a pass of `tokens` [batch, pos]."""
    batch, pos = tokens.shape
    rows, keys = context.rows, keys_of(context, pos)
    if rows is None:
        return Computed(batch * pos, batch * pos * keys)
    done, pairs = 0, 0
    for upto, seen in context.pieces or ((rows.width, keys),):
        pairs += batch * (upto - done) * seen
        done = upto
    return Computed(rows.lead[1], pairs)


def _stretches(mask: Tensor) -> tuple[tuple[int, int], ...]:
    """Where queries of `mask` [batch, query, key] are cut, and the keys that each stretch needs."""
    width, keys = mask.shape[1:]
    count = min(STRETCHES, width // QUERIES)
    if count < 2:
        return ()
    last = keys - mask.any(0).flip(-1).int().argmax(-1)
    ends = [width * (i + 1) // count // 2 * 2 for i in range(count - 1)] + [width]
    reach = last.cummax(0).values[torch.tensor(ends, device=mask.device) - 1].tolist()
    return tuple(
        (end, min(keys, -(-seen // KEYS) * KEYS)) for end, seen in zip(ends, reach, strict=True)
    )
