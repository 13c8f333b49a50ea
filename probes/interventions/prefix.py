"""The tokens before the first changed one: their keys and values are the recorded run's, and computed once.

With causal attention nothing before a changed position changes. So a run that parts at position p is the recorded one up to p,
which the model's own cache of keys and values hands to the rest, as in generation. Whether that gives the recorded run's
logits is tried on every model before it is relied on; padding, whose positions differ by row, is computed whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from abbie_lens.context import Context, KVCache

KEPT = 8
"""Prefixes, and batches begun, that are kept for the next ones."""


class Prefixes:
    """What `begin` gives for rows of a batch that start at a position, after what comes before it."""

    def __init__(
        self, model: Any, tokens: torch.Tensor, mask: torch.Tensor | None, n_iters: int
    ) -> None:
        self.model, self.tokens, self.mask, self.n_iters = model, tokens, mask, n_iters
        self._past: dict[int, KVCache] = {}
        self._whole: KVCache | None = None
        self._begun: dict[tuple[int, tuple[int, ...]], Any] = {}

    @property
    def shared(self) -> bool:
        """Whether rows of any number have one Context: those of one sequence, in our own models."""
        return len(self.tokens) == 1 and self.mask is None and type(self._one(0).context) is Context

    def begun(self, index: Sequence[int], start: int = 0) -> Any:
        """A State with the tokens and the Context of sequences `index`, from position `start` on."""
        if not self.shared:
            return self._kept(tuple(index), start)
        n, one = len(index), self._one(start)
        context = one.context
        if context.kv is not None:
            context = context.replace(kv=_repeated(context.kv, n))
        return one.replace(tokens=one.tokens.expand(n, -1), context=context)

    def _one(self, start: int) -> Any:
        return self._kept((0,), start)

    def _kept(self, index: tuple[int, ...], start: int) -> Any:
        if (start, index) not in self._begun:
            _make_room(self._begun)
            self._begun[start, index] = self.begin(index, start)
        return self._begun[start, index]

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
            self._past[start] = self._cached(start)
        if len(self.tokens) == 1:
            return _repeated(self._past[start], len(chosen))
        return {
            slot: pair if slot[0] == "run" else (pair[0][chosen], pair[1][chosen])
            for slot, pair in self._past[start].items()
        }

    def _cached(self, start: int) -> KVCache:
        """Cut out of those of the whole prompt, where every slot has a row a token; else run."""
        n = self.tokens.shape[1]
        if self._whole is None:
            self._whole = self._run(self.tokens)
        if all(x.shape[1] == n for pair in self._whole.values() for x in pair):
            return {slot: (k[:, :start], v[:, :start]) for slot, (k, v) in self._whole.items()}
        return self._run(self.tokens[:, :start])

    @torch.no_grad()
    def _run(self, tokens: torch.Tensor) -> KVCache:
        return self.model.run_cached(tokens, {}, self.n_iters)[1] or {}


def _repeated(kv: KVCache, n: int) -> KVCache:
    """Keys and values of one sequence for n rows of it: views, so that a batch holds one prefix."""
    rows = lambda x: x.expand(n, *x.shape[1:])  # noqa: E731
    return {
        slot: pair if slot[0] == "run" else (rows(pair[0]), rows(pair[1]))
        for slot, pair in kv.items()
    }


def _make_room(kept: dict[Any, Any]) -> None:
    while len(kept) >= KEPT:
        kept.pop(next(iter(kept)))
