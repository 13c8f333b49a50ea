"""What a rule at a threshold did, as sums over tokens by exit step and by group of documents; all of it can be added up.

Documents are dealt to at most GROUPS groups, so that memory does not grow with the corpus; intervals draw groups with
replacement, which are whole documents. Spearman's ranks are midranks of covariates in at most BINS bins of about equal count;
the order within a bin is not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from probes.early_exit.shards import Tokens

GROUPS = 128
BINS = 1024
CONFIDENCE_BINS = 960
STATS = (
    "n", "nll", "agrees", "right", "ever", "error", "nll_full", "entropy", "frequency", "position",
)  # fmt: skip
COVARIATES = STATS[-4:]
"""What exit steps are correlated with: ranks of full depth's NLL and entropy, of the token's frequency, of its position."""


def covariates(tokens: Tokens, counts: np.ndarray) -> np.ndarray:
    """[covariate, token]; counts [id] of the corpus."""
    return np.stack([tokens.nll[-1], tokens.entropy, counts[tokens.ids], tokens.position]).astype(
        np.float64
    )


@dataclass(frozen=True, eq=False)
class Ranks:
    """Midranks over the corpus, by bin."""

    edges: tuple[np.ndarray, ...]
    ranks: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, edges: tuple[np.ndarray, ...], counts: tuple[np.ndarray, ...]) -> Ranks:
        """From counts [bin] of each covariate over all tokens, scaled to 0…1."""
        return cls(edges, tuple((c.cumsum() - c / 2) / max(c.sum(), 1) for c in counts))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """[covariate, token] ranks."""
        rows = zip(x, self.edges, self.ranks, strict=True)
        return np.stack([ranks[binned(row, edges)] for row, edges, ranks in rows])


def edges_of(x: np.ndarray) -> tuple[np.ndarray, ...]:
    """Bin edges of each covariate [covariate, token of a sample]."""
    levels = np.linspace(0, 1, BINS + 1)[1:-1]
    return tuple(np.unique(np.quantile(row, levels)) for row in x)


def binned(x: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """[token] number of the bin."""
    return np.searchsorted(edges, x, side="right")


def oracle_steps(right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[token] least k whose top token is the next token, and whether there is one."""
    return right.argmax(0), np.asarray(right.any(0))


class Sums:
    """Sums of many points (a rule at a threshold) on the same tokens."""

    def __init__(self, n_points: int, n_iters: int, n_classes: int) -> None:
        self.depths = n_iters + 1
        self.by_exit = np.zeros((n_points, len(STATS), GROUPS, self.depths))
        """[point, stat, group, k] over tokens that exit after k."""
        self.fixed = np.zeros((3, GROUPS, self.depths))
        """n, NLL and agreement of all tokens after k, [stat, group, k]."""
        self.squares = np.zeros((2, len(COVARIATES), GROUPS))
        """Sum of ranks and of their squares."""
        self.by_class = np.zeros((n_points, 4, GROUPS, n_classes))
        """[point, (n, steps, nll, agrees), group, class]."""
        self.exits_by_class = np.zeros((n_points, n_classes, self.depths))
        """[point, class, k] tokens that exit after k."""
        self.by_confidence = np.zeros((n_points, 2, 2, CONFIDENCE_BINS))
        """[point, (n, confidence), wrong or right, bin]."""

    def add_tokens(self, tokens: Tokens, ranks: np.ndarray) -> None:
        """What all points share; ranks [covariate, token]."""
        group = tokens.document % GROUPS
        ones = np.ones(len(tokens))
        for k in range(self.depths):
            for i, x in enumerate((ones, tokens.nll[k], tokens.agrees[k])):
                self.fixed[i, :, k] += np.bincount(group, x, GROUPS)
        for i, row in enumerate(ranks):
            self.squares[0, i] += np.bincount(group, row, GROUPS)
            self.squares[1, i] += np.bincount(group, row**2, GROUPS)

    def add(self, point: int, steps: np.ndarray, tokens: Tokens, ranks: np.ndarray) -> None:
        """One point's exit steps [token]."""
        token = np.arange(len(tokens))
        at = (steps, token)
        nll, agrees, right = tokens.nll[at], tokens.agrees[at], tokens.right[at]
        best, ever = oracle_steps(tokens.right)
        cell = (tokens.document % GROUPS) * self.depths + steps
        stats = (
            np.ones(len(tokens)), nll, agrees, right, ever, np.where(ever, steps - best, 0), *ranks,
        )  # fmt: skip
        size = GROUPS * self.depths
        for i, x in enumerate(stats):
            self.by_exit[point, i] += np.bincount(cell, x, size).reshape(GROUPS, self.depths)
        n_classes = self.by_class.shape[-1]
        cell = (tokens.document % GROUPS) * n_classes + tokens.classes
        for i, x in enumerate((stats[0], steps, nll, agrees)):
            added = np.bincount(cell, x, GROUPS * n_classes)
            self.by_class[point, i] += added.reshape(GROUPS, n_classes)
        cell = tokens.classes * self.depths + steps
        added = np.bincount(cell, minlength=n_classes * self.depths)
        self.exits_by_class[point] += added.reshape(n_classes, self.depths)
        confidence = tokens.confidence[at]
        level = np.minimum((confidence * CONFIDENCE_BINS).astype(int), CONFIDENCE_BINS - 1)
        cell = right.astype(int) * CONFIDENCE_BINS + level
        for i, x in enumerate((stats[0], confidence)):
            self.by_confidence[point, i] += np.bincount(cell, x, 2 * CONFIDENCE_BINS).reshape(2, -1)


def calibration(by_confidence: np.ndarray, bins: int = 15) -> tuple[float, float, float]:
    """ECE over `bins` equal bins, AUROC of confidence for failure, and the most that its bins may hide.

    by_confidence: [(n, confidence), wrong or right, bin]. NaN where there is nothing to tell apart.
    """
    n, confidence = (x.reshape(2, bins, -1).sum(-1) for x in by_confidence)
    total = n.sum()
    ece = np.abs(n[1] - confidence.sum(0)).sum() / total if total else np.nan
    wrong, right = by_confidence[0]
    pairs = wrong.sum() * right.sum()
    if not pairs:
        return float(ece), np.nan, np.nan
    above = right[::-1].cumsum()[::-1] - right
    tied = float((wrong * right).sum())
    return float(ece), float((wrong * above).sum() + tied / 2) / pairs, tied / 2 / pairs
