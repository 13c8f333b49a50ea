"""Held-out NLL against r, by blocks of text, so that differences between families get intervals too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from abbie_lens.errors import DepthError
from abbie_lens.training import block_sums, bootstrap_means
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig

CONFIDENCE = 0.95
DRAWS = 2000


@dataclass(frozen=True)
class HeldoutNLL:
    """Nats per held-out token; NaN where the loop refuses the depth."""

    n_iters: tuple[int, ...]
    trained_n_iters: int
    nll: np.ndarray
    """[depth]"""
    low: np.ndarray
    high: np.ndarray
    """[depth] bounds of the 95 % interval (documents, then blocks within each, drawn with replacement)."""
    n_tokens: int
    n_params: int
    block_nll: np.ndarray
    """[depth, block] sums of NLL."""
    block_tokens: np.ndarray
    block_document: np.ndarray
    """[block]"""


@dataclass(frozen=True)
class NLL(Measure):
    """Evaluate the trained model on held-out windows."""

    name: ClassVar[str] = "nll"

    n_iters: tuple[int, ...] = (1, 2, 3, 4, 8, 16, 32)
    windows: int | None = None
    """Evenly spaced held-out windows; None takes the whole text."""
    batch_size: int = 16

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_iters", tuple(self.n_iters))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for no depth, a negative one, or no window."""
        depths = self.n_iters
        require(bool(depths) and min(depths) >= 0, self, "n_iters", "integers >= 0")
        require(self.windows is None or self.windows >= 1, self, "windows", "at least 1, or null")
        require(self.batch_size >= 1, self, "batch_size", "at least 1")

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> HeldoutNLL:
        """All depths that the loop does not refuse."""
        model = subject.model
        allowed = [r for r in self.n_iters if _allowed(model, r)]
        total, count, document = block_sums(
            model, subject.heldout, allowed,
            max_windows=self.windows, batch_size=self.batch_size, progress=progress,
        )  # fmt: skip
        by_depth = np.full((len(self.n_iters), len(count)), np.nan)
        by_depth[[self.n_iters.index(r) for r in allowed]] = total.T
        low, high = interval(bootstrap_means(by_depth.T, count, document, DRAWS, seed=0))
        return HeldoutNLL(
            n_iters=self.n_iters,
            trained_n_iters=model.cfg.n_iters,
            nll=by_depth.sum(1) / count.sum(),
            low=low,
            high=high,
            n_tokens=int(count.sum()),
            n_params=sum(p.numel() for p in model.parameters()),
            block_nll=by_depth.round(3),
            block_tokens=count,
            block_document=document,
        )


def interval(draws: np.ndarray, confidence: float = CONFIDENCE) -> tuple[np.ndarray, np.ndarray]:
    """Bounds [...] of draws [draw, ...]."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def _allowed(model: object, n_iters: int) -> bool:
    try:
        model.depth(n_iters)  # type: ignore[attr-defined]
    except DepthError:
        return False
    return True
