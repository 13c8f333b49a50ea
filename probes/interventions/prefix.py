"""The tokens before the first changed one: their keys and values are the recorded run's, and computed once.

With causal attention nothing before a changed position changes. So a run that parts at position p is the recorded one up to p,
which the model's own cache of keys and values hands to the rest, as in generation. Whether that gives the recorded run's
logits is tried on every model before it is relied on; padding, whose positions differ by row, is computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from abbie_lens.context import KVCache

KEPT = 8
"""Prefixes, and batches begun, that are kept for the next ones."""


class Prefixes:
    """What `begin` gives for rows of a batch that start at a position, after what comes before it."""

    def __init__(
        self, model: Any, tokens: torch.Tensor, mask: torch.Tensor | None, n_iters: int
    ) -> None:
        self.model, self.tokens, self.mask, self.n_iters = model, tokens, mask, n_iters
        self._past: dict[int, KVCache] = {}
        self._begun: dict[tuple[int, tuple[int, ...]], Any] = {}

    def begun(self, index: Sequence[int], start: int = 0) -> Any:
        """The State of sequences `index` after no iterations, from position `start` on; kept."""
        key = (start, tuple(index))
        if key not in self._begun:
            _make_room(self._begun)
            self._begun[key] = self.begin(index, start)
        return self._begun[key]

    def begin(self, index: Sequence[int], start: int = 0) -> Any:
        """The same, run anew: hooks see it."""
        chosen = torch.as_tensor(list(index), device=self.tokens.device)
        past = self.past(start, chosen) if start else None
        return self.model.begin(
            self.tokens[chosen, start:],
            n_iters=self.n_iters,
            attention_mask=None if self.mask is None else self.mask[chosen],
            past=past,
        )

    def past(self, start: int, chosen: torch.Tensor) -> KVCache:
        """Keys and values of the tokens before `start` of each chosen sequence."""
        if start not in self._past:
            _make_room(self._past)
            _, kept = self.model.run_cached(self.tokens[:, :start], {}, self.n_iters)
            self._past[start] = kept
        n, one = len(chosen), len(self.tokens) == 1
        # Views where the rows are of one sequence: what a batch holds is then one prefix.
        rows = lambda x: x.expand(n, *x.shape[1:]) if one else x[chosen]  # noqa: E731
        return {
            slot: pair if slot[0] == "run" else tuple(rows(x) for x in pair)  # type: ignore[misc]
            for slot, pair in self._past[start].items()
        }


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= KEPT:
        kept.pop(next(iter(kept)))
