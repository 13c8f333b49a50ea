"""The word problem of S5: the product of a row of permutations.

    21345 23451 = 32451 ;

A word `21345` is the permutation that sends 1 to 2, 2 to 1 and the rest to itself; factors apply from
left to right. S5 is the smallest symmetric group that is not solvable, so that no circuit of constant
depth is thought to multiply (Barrington 1989; Merrill & Sabharwal 2024): `degree` 3 and 4 are the
solvable controls.

Factors are uniform over the group, hence so is their product whatever its length. Products on the way
are not shown: after each factor they would leave one step to do. Steps: factors. Multiplying in pairs
would need about log2 of that many rounds; the label counts factors.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions


@dataclass(frozen=True, kw_only=True)
class Permutations(Task):
    """The product of permutations. Steps: factors. Chance: 1 / degree!."""

    name: ClassVar[str] = "s5"
    asks: ClassVar[str] = "the product of a row of permutations"
    steps: ClassVar[str] = "one factor"

    degree: int = 5

    def check(self) -> None:
        """Errors: ConfigError for a degree whose words would be no labels."""
        self.require(
            is_int(self.degree) and 2 <= self.degree <= 5, "degree", "an integer from 2 to 5"
        )

    @property
    def words(self) -> tuple[str, ...]:
        """`;`, `=` and the permutations, the identity first."""
        return (";", "=", *("".join(str(i + 1) for i in p) for p in _group(self.degree)[0]))

    @property
    def chance(self) -> float:
        """Each permutation is equally often the answer."""
        return 1 / len(_group(self.degree)[0])

    def shortest(self, difficulty: int) -> int:
        """Factors, `=`, answer, `;`."""
        return difficulty + 3

    def needed(self, words: Sequence[str]) -> list[int]:
        """Factors before `=`."""
        steps, factors = [0] * len(words), 0
        for i, word in enumerate(words):
            factors = factors + 1 if word.isdigit() else 0
            if tuple(words[i + 1 : i + 2]) == ("=",) and i + 1 < len(words):
                steps[i + 1] = factors
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """Factors and their product."""
        table = _group(self.degree)[1]
        end, equals = self.ids(";=")
        first = equals + 1
        k = difficulty[..., None]
        column = np.arange(int(difficulty.max()) + 3)
        factors = rng.integers(len(table), size=(*difficulty.shape, len(column)))
        factors[column >= np.broadcast_to(k, factors.shape)] = 0  # the identity changes nothing
        product = factors[..., 0]
        for i in range(1, int(difficulty.max())):
            product = table[product, factors[..., i]]
        answer = column == k + 1
        tokens = np.where(column < k, first + factors, end)
        tokens = np.where(column == k, equals, tokens)
        tokens = np.where(answer, first + product[..., None], tokens)
        present = np.broadcast_to(column < k + 3, tokens.shape)
        return np.empty((len(tokens), 0), np.int64), Questions(
            tokens, present, np.where(answer, k, 0)
        )


@lru_cache
def _group(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Permutations [order, degree] with the identity first, and table[p, q] of p, then q."""
    elements = np.array(list(itertools.permutations(range(degree))))
    code = elements @ degree ** np.arange(degree)
    number = np.zeros(code.max() + 1, dtype=np.int64)
    number[code] = np.arange(len(code))
    # elements[q][elements[p]]: first p, then q.
    products = elements[:, elements].transpose(1, 0, 2)
    return elements, number[products @ degree ** np.arange(degree)]
