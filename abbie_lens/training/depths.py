"""How many iterations a training step takes: fixed, or drawn anew, for the whole step or for each sequence."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .recipe import Recipe


def lognormal_poisson(mean: int, generator: np.random.Generator) -> int:
    """p ~ Poisson(tau) + 1, tau ~ LogNormal(ln mean - 1/8, 1/2), so E[p] = mean + 1. Source: arXiv 2502.05171."""
    sigma = 0.5
    tau = generator.lognormal(np.log(max(mean, 1)) - sigma**2 / 2, sigma)
    return int(generator.poisson(tau)) + 1


def uniform(mean: int, spread: int, generator: np.random.Generator) -> int:
    """Any of mean - spread to mean + spread alike; never below 1."""
    return int(generator.integers(max(1, mean - spread), mean + spread, endpoint=True))


def poisson_per_sequence(mean: int, n_rows: int, generator: np.random.Generator) -> list[int]:
    """max(1, Poisson(mean)), another for every row. Source: arXiv 2604.12946."""
    return np.maximum(generator.poisson(mean, n_rows), 1).tolist()


def rising_mean(recipe: Recipe, trained: int, progress: float) -> int:
    """The curriculum's mean at `progress` 0 to 1 of the run: 1 at first, `trained` from `curriculum_share` on."""
    if progress >= recipe.curriculum_share:
        return trained
    # A share that rounding put above a whole number must not count as the next.
    rise = CURRICULA[recipe.curriculum](progress / recipe.curriculum_share)
    return max(1, math.ceil(trained * rise - 1e-9))


def draw(
    recipe: Recipe, trained: int, seed: int, step: int, progress: float, n_rows: int
) -> list[int]:
    """Iterations of each of `n_rows` sequences at training step `step`, `progress` 0 to 1 of the run.

    A function of the arguments alone: the same in every process, and in a resumed run.
    """
    generator = np.random.Generator(np.random.Philox(key=[seed, step]))
    match recipe.depth:
        case "fixed":
            depth = trained
        case "uniform":
            depth = uniform(trained, recipe.depth_spread, generator)
        case "lognormal_poisson":
            depth = lognormal_poisson(trained, generator)
        case "curriculum":
            depth = lognormal_poisson(rising_mean(recipe, trained, progress), generator)
        case _:
            return poisson_per_sequence(trained, n_rows, generator)
    return [depth] * n_rows


DEPTHS = ("fixed", "uniform", "lognormal_poisson", "curriculum", "poisson_per_sequence")
CURRICULA: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "1-sqrt": lambda x: 1 - math.sqrt(1 - x),
}
