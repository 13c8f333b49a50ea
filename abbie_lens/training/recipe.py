"""Recipe: how a loop is trained beyond one loss at one depth: depth sampling, truncation, losses, penalties."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.settings import check_types

if TYPE_CHECKING:
    from abbie_lens.config import LoopedConfig


@dataclass(frozen=True)
class Recipe:
    """Settings of a loop's training. Errors: ConfigError for an unknown or impossible value."""

    depth: str = "fixed"
    """How many iterations a step trains: `fixed` takes the model's n_iters, others draw around it: one depth a step
    (`lognormal_poisson`; `curriculum`, whose mean rises to n_iters) or one a sequence (`poisson_per_sequence`)."""
    curriculum: str = "linear"
    """How the mean of `curriculum` rises: `linear`, or as `1-sqrt` 1 - sqrt(1 - x), slower at first."""
    curriculum_share: float = 0.25
    """Share of the run over which it rises."""
    backprop_depth: int | None = None
    """Last iterations that carry gradient, of every sequence's own; None: all."""
    loss: str = "end"
    """Read-outs that are trained: the last (`end`), every one (`step`), the last third (`few`)."""
    jacobian_weight: float = 0.0
    """w of STARS: (1 - w) loss + w ‖J‖_F²/n, J the Jacobian of one more iteration. Source: arXiv 2605.26733."""
    jacobian_from: float = 0.1
    """Share of the run after which the Jacobian counts."""

    def __post_init__(self) -> None:
        check_types(self, "recipe.")
        _require(self.depth in DEPTHS, "depth", self.depth, tuple(DEPTHS))
        _require(self.loss in LOSSES, "loss", self.loss, tuple(LOSSES))
        _require(self.curriculum in CURRICULA, "curriculum", self.curriculum, tuple(CURRICULA))
        n = self.backprop_depth
        _require(n is None or n >= 1, "backprop_depth", n, "an integer >= 1, or null")
        for name in ("jacobian_weight", "jacobian_from", "curriculum_share"):
            value = getattr(self, name)
            _require(0 <= value <= 1, name, value, "0 to 1")

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Recipe:
        """From plain JSON types. Errors: ConfigError for an unknown field."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"recipe: unknown field {name!r}.{nearest(name, known)}")
        return cls(**plain)

    def check(self, cfg: LoopedConfig) -> None:
        """Errors: ConfigError where training would ask the loop for more iterations than it has."""
        most = cfg.loop.max_depth
        if most is None:
            return
        allowed = f'not with {cfg.loop.family} of {most} iterations and beyond="refuse"'
        _require(
            self.depth == "fixed",
            "depth",
            self.depth,
            f"'fixed': a draw has no upper end, {allowed}",
        )
        # The Jacobian is that of one iteration more than was run.
        _require(
            self.jacobian_weight == 0 or cfg.n_iters < most,
            "jacobian_weight",
            self.jacobian_weight,
            f"0: it takes iteration {cfg.n_iters + 1}, {allowed}",
        )

    def n_iters(self, trained: int, seed: int, step: int, progress: float = 1.0) -> int:
        """Iterations of training step `step`, or of its first sequence; see `row_depths`."""
        return self.row_depths(trained, seed, step, progress, 1)[0]

    def row_depths(
        self, trained: int, seed: int, step: int, progress: float, n_rows: int
    ) -> list[int]:
        """Iterations of each of the `n_rows` sequences of training step `step`, at `progress` 0 to 1 of the run.

        A function of the arguments alone: the same in every process, and in a resumed run.
        """
        generator = np.random.Generator(np.random.Philox(key=[seed, step]))
        if self.depth == "curriculum":
            trained = self.mean_depth(trained, progress)
        drawn = DEPTHS[self.depth](trained, generator, n_rows)
        return [drawn] * n_rows if isinstance(drawn, int) else drawn

    def mean_depth(self, trained: int, progress: float) -> int:
        """The curriculum's mean at `progress` 0 to 1 of the run: 1 at first, `trained` from `curriculum_share` on."""
        if progress >= self.curriculum_share:
            return trained
        # A share that rounding put above a whole number must not count as the next.
        rise = CURRICULA[self.curriculum](progress / self.curriculum_share)
        return max(1, math.ceil(trained * rise - 1e-9))

    def trained_depths(self, n_iters: int) -> list[int]:
        """The k whose read-outs z_k are trained in a run of `n_iters`."""
        return LOSSES[self.loss](n_iters)


def lognormal_poisson(mean: int, generator: np.random.Generator, n_rows: int = 1) -> int:
    """p ~ Poisson(tau) + 1, tau ~ LogNormal(ln mean - 1/8, 1/2), so E[p] = mean + 1. One p for all rows.

    Source: arXiv 2502.05171.
    """
    sigma = 0.5
    tau = generator.lognormal(np.log(max(mean, 1)) - sigma**2 / 2, sigma)
    return int(generator.poisson(tau)) + 1


def poisson_per_sequence(mean: int, generator: np.random.Generator, n_rows: int) -> list[int]:
    """max(1, Poisson(mean)), another for every row. Source: arXiv 2604.12946."""
    return np.maximum(generator.poisson(mean, n_rows), 1).tolist()


DEPTHS: dict[str, Callable[[int, np.random.Generator, int], int | list[int]]] = {
    "fixed": lambda mean, _, __: mean,
    "lognormal_poisson": lognormal_poisson,
    "curriculum": lognormal_poisson,
    "poisson_per_sequence": poisson_per_sequence,
}
CURRICULA: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "1-sqrt": lambda x: 1 - math.sqrt(1 - x),
}
LOSSES: dict[str, Callable[[int], list[int]]] = {
    "end": lambda r: [r],
    "step": lambda r: list(range(1, r + 1)) or [0],
    "few": lambda r: list(range(2 * r // 3 + 1, r + 1)) or [0],
}


def _require(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"recipe.{name}={value!r}: expected {allowed}.")
