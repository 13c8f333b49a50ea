"""Recipe: how a loop is trained beyond one loss at one depth: depth sampling, truncation, losses, penalties."""

from __future__ import annotations

import dataclasses
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
    """How many iterations a step trains: `fixed` takes the model's n_iters, others draw around it."""
    depth_spread: int = 1
    """s of `uniform`, which draws from n_iters - s to n_iters + s, at least 1."""
    backprop_depth: int | None = None
    """Last iterations that carry gradient; None: all."""
    loss: str = "end"
    """Read-outs that are trained: the last (`end`), every one (`step`), the last third (`few`),
    or `n_supervised` of those that carry gradient, drawn anew every step (`random`)."""
    n_supervised: int = 5
    jacobian_weight: float = 0.0
    """w of STARS: (1 - w) loss + w ‖J‖_F²/n, J the Jacobian of one more iteration. Source: arXiv 2605.26733."""
    jacobian_from: float = 0.1
    """Share of the run after which the Jacobian counts."""

    def __post_init__(self) -> None:
        check_types(self, "recipe.")
        _require(self.depth in (*DEPTHS, "uniform"), "depth", self.depth, (*DEPTHS, "uniform"))
        _require(self.loss in (*LOSSES, "random"), "loss", self.loss, (*LOSSES, "random"))
        n = self.backprop_depth
        _require(n is None or n >= 1, "backprop_depth", n, "an integer >= 1, or null")
        for name in ("depth_spread", "n_supervised"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "an integer >= 1")
        for name in ("jacobian_weight", "jacobian_from"):
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
        if self.depth == "uniform":
            deepest = cfg.n_iters + self.depth_spread
            _require(
                deepest <= most,
                "depth_spread",
                self.depth_spread,
                f"a draw of {most} iterations at most, not {deepest}, {allowed}",
            )
        _require(
            self.depth in ("fixed", "uniform"),
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

    def n_iters(self, trained: int, seed: int, step: int) -> int:
        """Iterations of training step `step`: the same in every process, and in a resumed run."""
        generator = np.random.Generator(np.random.Philox(key=[seed, step]))
        if self.depth == "uniform":
            return uniform(trained, self.depth_spread, generator)
        return DEPTHS[self.depth](trained, generator)

    def trained_depths(self, n_iters: int, seed: int = 0, step: int = 0) -> list[int]:
        """The k whose read-outs z_k are trained in a run of `n_iters` at training step `step`.

        Where they are drawn, they are the same in every process, and in a resumed run.
        """
        if self.loss != "random":
            return LOSSES[self.loss](n_iters)
        first = 0 if self.backprop_depth is None else max(0, n_iters - self.backprop_depth)
        among = range(first + 1, n_iters + 1)
        if len(among) <= self.n_supervised:
            return list(among) or [0]
        # Another counter is another stream than the one that the depth is drawn from.
        generator = np.random.Generator(np.random.Philox(key=[seed, step], counter=[0, 0, 0, 1]))
        return sorted(map(int, generator.choice(among, self.n_supervised, replace=False)))


def lognormal_poisson(mean: int, generator: np.random.Generator) -> int:
    """p ~ Poisson(tau) + 1, tau ~ LogNormal(ln mean - 1/8, 1/2), so E[p] = mean + 1. Source: arXiv 2502.05171."""
    sigma = 0.5
    tau = generator.lognormal(np.log(max(mean, 1)) - sigma**2 / 2, sigma)
    return int(generator.poisson(tau)) + 1


def uniform(mean: int, spread: int, generator: np.random.Generator) -> int:
    """Any of mean - spread to mean + spread alike; never below 1."""
    return int(generator.integers(max(1, mean - spread), mean + spread, endpoint=True))


DEPTHS: dict[str, Callable[[int, np.random.Generator], int]] = {
    "fixed": lambda mean, _: mean,
    "lognormal_poisson": lognormal_poisson,
}
LOSSES: dict[str, Callable[[int], list[int]]] = {
    "end": lambda r: [r],
    "step": lambda r: list(range(1, r + 1)) or [0],
    "few": lambda r: list(range(2 * r // 3 + 1, r + 1)) or [0],
}


def _require(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"recipe.{name}={value!r}: expected {allowed}.")
