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
    """Sentences of similar length in one batch."""

    at: Tensor
    """[sentence, word] number of the word among `Batches.words`, 0 on padding."""
    depth: Tensor
    """[sentence, word]"""
    distance: Tensor
    """[sentence, word, word]"""
    there: Tensor
    """[sentence, word] 1 for words."""

    def losses(self, placed: Tensor, deep: Tensor) -> Tensor:
        """[2] summed loss of distances and of depths; placed [word, rank], deep [word]."""
        n, mine = self.there.sum(1), placed[self.at]
        # |a − b|² without a tensor [sentence, word, word, rank]
        squares = mine.square().sum(-1)
        between = squares[:, :, None] + squares[:, None] - 2 * mine @ mine.transpose(1, 2)
        pairs = self.there[:, :, None] * self.there[:, None]
        apart = ((between - self.distance).abs() * pairs).sum((1, 2)) / n.square()
        below = ((deep[self.at] - self.depth).abs() * self.there).sum(1) / n
        return torch.stack([apart.sum(), below.sum()])


@dataclass(frozen=True)
class Batches:
    """Sentences in batches by length: padded to the longest of all, most of the work would be padding."""

    words: Tensor
    """[word] rows of the features that any sentence has, each once."""
    batches: tuple[Padded, ...]
    n_sentences: int

    @classmethod
    def of(cls, sentences: Sequence[Sentence], device: str | torch.device) -> Batches:
        """The batches on `device`, float32."""
        words = np.unique(np.concatenate([s.rows for s in sentences]))
        size = np.ceil(np.log2([len(s.rows) for s in sentences])).astype(int)
        groups = [
            [sentences[i] for i in np.flatnonzero(size == n).tolist()] for n in np.unique(size)
        ]
        batches = tuple(_padded(group, words, device) for group in groups)
        return cls(torch.from_numpy(words).to(device), batches, len(sentences))

    def losses(self, x: Tensor, weights: Tensor) -> Tensor:
        """[2] mean loss of distances and of depths; x [word, width] of `words`, weights [2, rank, width]."""
        placed, deep = (x @ weights.flatten(0, 1).T).chunk(2, -1)
        deep = deep.square().sum(-1)
        each = [batch.losses(placed, deep) for batch in self.batches]
        return torch.stack(each).sum(0) / self.n_sentences


def _padded(sentences: Sequence[Sentence], words: np.ndarray, device: str | torch.device) -> Padded:
    n, longest = len(sentences), max(len(s.rows) for s in sentences)
    at, depth = np.zeros((n, longest), np.int64), np.zeros((n, longest), np.float32)
    distance = np.zeros((n, longest, longest), np.float32)
    there = np.zeros((n, longest), np.float32)
    for i, s in enumerate(sentences):
        m = len(s.rows)
        at[i, :m], depth[i, :m], there[i, :m] = np.searchsorted(words, s.rows), s.depth, 1
        distance[i, :m, :m] = s.distance
    return Padded(*(torch.from_numpy(a).to(device) for a in (at, depth, distance, there)))


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
