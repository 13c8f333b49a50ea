"""Four distances between successive states on held-out prompts, trained beside freshly initialised weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import DepthError
from probes import fixed_point
from probes.fixed_points import FixedPoint
from probes.reproduction.data import prompts
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require
from probes.reproduction.measures.nll import interval

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig

DISTANCES = ("raw", "relative", "direction", "readout")
WEIGHTS = ("trained", "random")


@dataclass(frozen=True)
class Approach:
    """How one set of weights moves, at r iterations."""

    median: dict[str, np.ndarray]
    """By distance: [r] median over tokens of step k -> k + 1."""
    last_over_first: dict[str, tuple[float, float, float]]
    """By distance: last step over first, medians over tokens, with its interval over prompts."""
    norm: np.ndarray
    """[r + 1] median of the state's norm."""
    verdicts: dict[str, float]
    """Share of tokens by verdict."""


@dataclass(frozen=True)
class FixedPoints:
    """Trained and random weights; both None where the loop refuses the depth."""

    n_iters: int
    refused: str
    """Why there is nothing; empty otherwise."""
    trained: Approach | None
    random: Approach | None


@dataclass(frozen=True)
class MeasureFixedPoints(Measure):
    """`probes.fixed_point` on held-out prompts."""

    name: ClassVar[str] = "fixed_point"

    n_iters: int = 16
    prompts: int = 16
    length: int = 128
    """Tokens a prompt."""
    seed: int = 0
    """Of the random weights."""

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(self.n_iters >= 2, self, "n_iters", "at least 2")
        require(self.prompts >= 2, self, "prompts", "at least 2")
        require(self.length >= 2, self, "length", "at least 2")
        for family in comparison.families:
            n_ctx = comparison.model_of(family)["n_ctx"]
            require(self.length <= n_ctx, self, "length", f"at most n_ctx={n_ctx} of {family}")

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> FixedPoints:
        """Distances at `n_iters`, or why the loop refuses."""
        tokens = prompts(subject.heldout, self.prompts, self.length).to(subject.model.device)
        try:
            found = fixed_point(subject.model, tokens, self.n_iters, seed=self.seed)
        except DepthError as error:
            return FixedPoints(self.n_iters, str(error), None, None)
        assert found.control is not None
        return FixedPoints(self.n_iters, "", *(_approach(f) for f in (found, found.control)))


def _approach(found: FixedPoint) -> Approach:
    shares = {name: n / int(found.valid.sum()) for name, n in found.counts().items()}
    return Approach(
        median={name: found.quantiles(name, (0.5,))[0] for name in DISTANCES},
        last_over_first={name: _ratio(getattr(found, name)) for name in DISTANCES},
        norm=found.quantiles("norm", (0.5,))[0],
        verdicts=shares,
    )


def _ratio(steps: np.ndarray, draws: int = 1000) -> tuple[float, float, float]:
    """Median of the last step over that of the first, [r, prompt, pos]; drawn again over prompts."""

    def ratio(chosen: Any) -> float:
        first, last = (steps[k][chosen].ravel() for k in (0, -1))
        if not (np.isfinite(first).any() and np.isfinite(last).any()):
            return float("nan")
        below = np.nanmedian(first)
        return float(np.nanmedian(last) / below) if below > 0 else float("nan")

    generator = np.random.default_rng(0)
    n = steps.shape[1]
    drawn = np.array([ratio(generator.integers(n, size=n)) for _ in range(draws)])
    if np.isnan(drawn).any():
        return ratio(np.arange(n)), float("nan"), float("nan")
    low, high = interval(drawn)
    return ratio(np.arange(n)), float(low), float(high)
