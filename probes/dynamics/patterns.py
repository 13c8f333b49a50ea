"""What one attention pattern is like: numbers of a [batch, head, query, key] tensor, padding left out.

Everything here works on the model's device, in float64 where it has it, and forgets the pattern.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.halting.measures import wide

BY_QUERY = ("entropy", "sink", "local", "overlap")
TITLES = {
    "entropy": "entropy / log(t+1)",
    "sink": "mass on the first token",
    "local": "local mass",
    "overlap": "overlap with k − 1",
    "concentration": "concentration on one key",
    "sink_rate": "share of sink heads",
}
"""What figures, pages and sentences call the measures."""


@dataclass(frozen=True)
class Layout:
    """Which rows and columns of a pattern are tokens, [batch, pos] each."""

    valid: Tensor
    """bool: tokens, not padding."""
    rank: Tensor
    """Number of tokens before, so that a token sees rank + 1 keys."""

    @classmethod
    def of(cls, valid: Tensor) -> Layout:
        """From the mask [batch, pos]."""
        return cls(valid, valid.long().cumsum(-1) - 1)


def by_query(
    pattern: Tensor, before: Tensor | None, layout: Layout, asked: Tensor, window: int
) -> dict[str, Tensor]:
    """[batch, head, query] of entropy, sink, local, overlap; NaN where undefined (see `Attention`).

    `before`: the same block's pattern one iteration earlier. `asked` [batch, pos]: queries to count.
    """
    p, rank = wide(pattern), layout.rank
    entropy = -torch.xlogy(p, p).sum(-1) / wide(rank + 1).log()[:, None]
    first = (layout.rank == 0) & layout.valid
    near = rank[:, :, None] - rank[:, None, :] < window
    found = {
        "entropy": entropy,
        "sink": (p * first[:, None, None, :]).sum(-1),
        "local": (p * near[:, None]).sum(-1),
        "overlap": torch.full_like(entropy, float("nan")),
    }
    if before is not None:
        found["overlap"] = torch.minimum(p, wide(before)).sum(-1)
    # A token that sees one key, or none beyond the window, has no choice to make.
    least = {"local": window}
    return {
        name: value.where((asked & (rank >= least.get(name, 1)))[:, None], float("nan"))
        for name, value in found.items()
    }


def concentration(pattern: Tensor, layout: Layout, asked: Tensor) -> Tensor:
    """[batch, head] 1 − H(c)/log n of the mass c that each of n keys receives: 0 spread evenly, 1 on one key.

    Mean over the queries that see a key besides their own; NaN for a sequence with fewer than two tokens.
    """
    p = wide(pattern)
    counted = (asked & (layout.rank >= 1) & layout.valid)[:, None] & ~p.isnan().any(-1)
    received = p.where(counted[..., None], 0).sum(2)
    share = received / received.sum(-1, keepdim=True)
    entropy = -torch.xlogy(share, share).sum(-1)
    n = wide(layout.valid.sum(-1, keepdim=True))
    return (1 - entropy / n.log()).where(n > 1, float("nan"))
