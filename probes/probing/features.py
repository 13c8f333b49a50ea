"""What a probe reads: activations of chosen tokens, by site and iteration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from abbie_lens.collecting import Collection
from abbie_lens.errors import InputError
from probes.corpus import Window
from probes.progress import Progress

BATCH = 8
Features = dict[str, list[np.ndarray]]
"""Site -> one [token, width] float32 array per iteration; a single one for a site outside the loop."""

Reader = Callable[
    [Any, Sequence[Window], Sequence[np.ndarray], Sequence[str], int, Progress], Features
]
"""What gives the features of a model, as `collect` does."""


def batches(found: Sequence[Window]) -> Iterator[list[int]]:
    """Numbers of windows of similar length, so that little is padded."""
    order = sorted(range(len(found)), key=lambda i: len(found[i].ids))
    for i in range(0, len(order), BATCH):
        yield order[i : i + BATCH]


def n_batches(found: Sequence[Window]) -> int:
    """How many steps `collect` reports."""
    return -(-len(found) // BATCH)


def collect(
    model: Any,
    found: Sequence[Window],
    chosen: Sequence[np.ndarray],
    sites: Sequence[str],
    n_iters: int,
    progress: Progress,
) -> Features:
    """Run every window once and keep `sites` at the chosen tokens.

    chosen: for each window, the positions to keep; tokens come back window by window.
    Errors: SiteError for an unknown site, InputError for one that has no vector per token.
    """
    parts: dict[str, list[list[np.ndarray]]] = {}
    at_readout = any(site.startswith(("tail.", "ln_final.", "unembed.")) for site in sites)
    for batch in batches(found):
        width = max(len(found[i].ids) for i in batch)
        tokens = torch.tensor([found[i].ids + [0] * (width - len(found[i].ids)) for i in batch])
        mask = torch.tensor([[int(p < len(found[i].ids)) for p in range(width)] for i in batch])
        with torch.no_grad():
            _, cache = model.run_with_cache(
                tokens.to(model.device),
                n_iters=n_iters,
                attention_mask=None if mask.all() else mask.to(model.device),
                names_filter=list(sites),
                return_type="logits" if at_readout else None,
            )
        for site in sites:
            looped = bool(cache.iterations(site))
            stack = cache[site] if looped else cache[site][None]
            stack = vectors(stack, site, tokens.shape).float().cpu().numpy()
            rows = parts.setdefault(site, [[np.empty(0)] * len(found) for _ in stack])
            for row, values in zip(rows, stack, strict=True):
                for b, i in enumerate(batch):
                    row[i] = values[b, chosen[i]]
        progress.step()
    return {site: [np.concatenate(row) for row in rows] for site, rows in parts.items()}


def vectors(stack: torch.Tensor, site: str, shape: torch.Size) -> torch.Tensor:
    """[iteration, batch, pos, ...] -> [iteration, batch, pos, width]; heads are joined.

    Errors: InputError for a site that has no vector per token.
    """
    if stack.ndim not in (4, 5) or stack.shape[1:3] != shape:
        raise InputError(
            f"sites: {site!r} has shape {tuple(stack.shape[1:])} per iteration; a probe reads one"
            " vector per token, [batch, pos, width] or [batch, pos, head, width]."
        )
    return stack.flatten(3)


def collected(
    collection: Collection, sites: Sequence[str], tokens: np.ndarray, progress: Progress
) -> Features:
    """The same from what `abbie-lens collect` wrote: `sites` at the chosen tokens, shard by shard.

    tokens: numbers of rows of `collection.index()`, ascending. progress: told of each shard.
    Errors: SiteError for a site that was not collected in all its iterations; InputError for tokens
    beyond the end or out of order.
    """
    if len(tokens) and (tokens[0] < 0 or (np.diff(tokens) <= 0).any()):
        raise InputError("tokens: expected rows of the index, ascending, each once.")
    parts: dict[str, list[list[np.ndarray]]] = {site: [] for site in sites}
    first = 0
    for shard in collection.shards():
        last = first + len(shard.index)
        here = torch.from_numpy(tokens[(tokens >= first) & (tokens < last)] - first)
        for site in sites:
            values = shard.tensor(site)
            stack = values if collection.rows.get(site) else values[None]
            for k, row in enumerate(stack):
                parts[site] += [[]] if k == len(parts[site]) else []
                parts[site][k].append(row[here].flatten(1).float().numpy())
        first = last
        progress.step()
    if len(tokens) and tokens[-1] >= first:
        raise InputError(
            f"tokens: {int(tokens[-1])} is beyond the {first} tokens of the collection."
        )
    return {site: [np.concatenate(row) for row in rows] for site, rows in parts.items()}
