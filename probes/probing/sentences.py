"""Sentences with their trees, as structural probes are fitted on and judged by them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError


@dataclass(frozen=True)
class Sentence:
    """Words of one sentence and their tree."""

    document: int
    rows: np.ndarray
    """[word] number of the word's token among the features."""
    depth: np.ndarray
    """[word] steps from the root."""
    distance: np.ndarray
    """[word, word] edges between two words."""

    def __post_init__(self) -> None:
        n = len(self.rows)
        if n < 2 or self.depth.shape != (n,) or self.distance.shape != (n, n):
            raise InputError(
                f"sentences: {n} words, depth {self.depth.shape}, distance {self.distance.shape};"
                " expected at least two words, depth [word] and distance [word, word]."
            )
        if not (np.isfinite(self.depth).all() and np.isfinite(self.distance).all()):
            raise InputError(
                "sentences: a depth or distance is not finite; leave such sentences out."
            )


@dataclass(frozen=True)
class Padded:
    """Sentences of unlike length in one batch."""

    words: Tensor
    """[word] the tokens that any sentence has, each once."""
    at: Tensor
    """[sentence, word] which of `words`, 0 on padding."""
    depth: Tensor
    """[sentence, word]"""
    distance: Tensor
    """[sentence, word, word]"""
    there: Tensor
    """[sentence, word] 1 for words."""

    @classmethod
    def of(cls, sentences: Sequence[Sentence], device: str | torch.device) -> Padded:
        """The batch on `device`, float32."""
        n, longest = len(sentences), max(len(s.rows) for s in sentences)
        rows, depth = np.zeros((n, longest), np.int64), np.zeros((n, longest), np.float32)
        distance = np.zeros((n, longest, longest), np.float32)
        there = np.zeros((n, longest), np.float32)
        for i, s in enumerate(sentences):
            m = len(s.rows)
            rows[i, :m], depth[i, :m], there[i, :m] = s.rows, s.depth, 1
            distance[i, :m, :m] = s.distance
        words = np.unique(rows[there > 0])
        at = np.where(there > 0, np.searchsorted(words, rows), 0)
        each = (torch.from_numpy(a).to(device) for a in (words, at, depth, distance, there))
        return cls(*each)

    def losses(self, x: Tensor, weights: Tensor) -> Tensor:
        """[2] loss of distances and of depths; x [word, width] of `words`, weights [2, rank, width]."""
        n = self.there.sum(1)
        # projected before they are padded: most sentences are far shorter than the longest
        placed, deep = (x @ weights.flatten(0, 1).T).chunk(2, -1)
        placed, deep = placed[self.at], deep.square().sum(-1)[self.at]
        # |a − b|² without a tensor [sentence, word, word, rank]
        squares = placed.square().sum(-1)
        between = squares[:, :, None] + squares[:, None] - 2 * placed @ placed.transpose(1, 2)
        pairs = self.there[:, :, None] * self.there[:, None]
        apart = ((between - self.distance).abs() * pairs).sum((1, 2)) / n.square()
        below = ((deep - self.depth).abs() * self.there).sum(1) / n
        return torch.stack([apart.mean(), below.mean()])


def tree_edges(distance: np.ndarray) -> set[tuple[int, int]]:
    """Edges of the minimum spanning tree of [word, word] distances, each (smaller, larger)."""
    from scipy.sparse.csgraph import minimum_spanning_tree

    # zeros mean "no edge" there; only the order of distances matters
    found = minimum_spanning_tree(np.triu(distance - distance.min() + 1.0, 1)).tocoo()
    return {(int(min(i, j)), int(max(i, j))) for i, j in zip(found.row, found.col, strict=True)}


def rank_correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Mean over rows of Spearman's ρ; NaN where no row has two different values."""
    from scipy.stats import rankdata

    ranks = [rankdata(each, axis=-1) for each in (one, other)]
    a, b = (r - r.mean(-1, keepdims=True) for r in ranks)
    norms = np.sqrt(np.square(a).sum(-1) * np.square(b).sum(-1))
    rho = np.divide((a * b).sum(-1), norms, where=norms > 0, out=np.full(len(norms), np.nan))
    return float(np.nanmean(rho)) if np.isfinite(rho).any() else float("nan")


class Judge:
    """A sentence's tree, beside which predicted distances and depths are laid."""

    def __init__(self, sentence: Sentence) -> None:
        self.sentence, self.n = sentence, len(sentence.rows)
        self._edges = tree_edges(sentence.distance)

    def scores(self, x: Tensor, distance: Tensor, depth: Tensor) -> tuple[float, float, float]:
        """Share of the tree's edges found, Spearman's ρ of distances and of depths; x [token, width], maps [rank, width]."""
        states = x[torch.from_numpy(self.sentence.rows).to(x.device)]
        placed = states @ distance.T
        between = (placed[:, None] - placed[None]).square().sum(-1)
        deep = (states @ depth.T).square().sum(-1)
        return self._judged(between.cpu().numpy().astype(float), deep.cpu().numpy().astype(float))

    def chain(self) -> tuple[float, float, float]:
        """The same of words joined to their neighbours, and of their place in the sentence."""
        place = np.arange(self.n, dtype=float)
        return self._judged(np.abs(np.subtract.outer(place, place)), place)

    def _judged(self, between: np.ndarray, deep: np.ndarray) -> tuple[float, float, float]:
        return (
            len(tree_edges(between) & self._edges) / (self.n - 1),
            rank_correlation(between, self.sentence.distance),
            rank_correlation(deep[None], self.sentence.depth[None]),
        )
