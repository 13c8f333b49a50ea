"""Modular-sum chains: variables defined by one another, in shuffled order, all modulo m.

    c a +4 ; a 9 ; b c +2 ; …  ? b 5 ;      a = 9, c = a + 4 = 3, b = c + 2 = 5  (mod 10)

A plain sum `9 + 4 + 2` would be one step for attention, which adds whatever stands in a row; here the
next summand is known only once its definition is found. Each row has several chains of equal length and
asks once about each, somewhere along it, so that neither another answer, nor the sum of all numbers in
sight, nor the length of a chain says anything.

Steps: definitions read, from the variable asked for down to the plain number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions
from abbie_lens.tasks.khop import NODES


@dataclass(frozen=True, kw_only=True)
class ModularSum(Task):
    """The value of a variable at the end of a chain of sums. Steps: definitions read. Chance: 1 / modulus."""

    name: ClassVar[str] = "modular-sum"
    asks: ClassVar[str] = "the value of a variable that is defined by others, modulo m"
    steps: ClassVar[str] = "one definition read, one sum"

    n_ctx: int = 108
    modulus: int = 10
    n_chains: int = 3
    """Chains in a row, each as long as the hardest question, each asked about once."""

    def check(self) -> None:
        """Errors: ConfigError for a modulus without numbers or more variables than letters."""
        self.require(
            is_int(self.modulus) and 2 <= self.modulus <= 100, "modulus", "an integer from 2 to 100"
        )
        most = len(NODES) // self.hardest
        self.require(
            is_int(self.n_chains) and 1 <= self.n_chains <= most,
            "n_chains",
            f"an integer from 1 to {most} ({len(NODES)} letters, {self.hardest} a chain)",
        )

    @property
    def words(self) -> tuple[str, ...]:
        """`;`, `?`, numbers, summands and variables."""
        numbers = [str(i) for i in range(self.modulus)]
        variables = NODES[: self.n_chains * self.hardest]
        return (";", "?", *numbers, *(f"+{i}" for i in numbers), *variables)

    @property
    def chance(self) -> float:
        """Each number is equally often the answer."""
        return 1 / self.modulus

    @property
    def opening_length(self) -> int:
        """Three tokens where a chain begins, four for every further definition."""
        return self.n_chains * (4 * self.hardest - 1)

    def shortest(self, difficulty: int) -> int:
        """`?`, variable, answer, `;`."""
        return 4

    def slots(self, lowest: int) -> int:
        """One question a chain."""
        return min(self.n_chains, super().slots(lowest))

    def needed(self, words: Sequence[str]) -> list[int]:
        """Definitions from the variable after `?` to a number; 0 where they end nowhere or in a circle."""
        steps, parent = [0] * len(words), {}
        for i, word in enumerate(words):
            before = words[i - 1] if i else ";"
            if before == "?":
                passed = set()
                while word in parent and word not in passed:
                    passed.add(word)
                    word = parent[word]
                steps[i] = len(passed) if word == "" else 0
            elif word.startswith("+") and i > 1:
                parent[words[i - 2]] = before
            elif word.isdigit() and (i < 2 or words[i - 2] != "?"):
                parent[before] = ""
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """The definitions in shuffled order, and one question about each chain."""
        n, slots = difficulty.shape
        shape = (n, self.n_chains, self.hardest)
        end, ask = self.ids(";?")
        number, summand = self.ids(["0", "+0"])
        letters = self.ids(NODES[: self.n_chains * self.hardest])
        variables = rng.permuted(np.tile(letters, (n, 1)), axis=1).reshape(shape)
        added = rng.integers(self.modulus, size=shape)
        values = added.cumsum(-1) % self.modulus

        definitions = np.full((*shape, 4), end)
        definitions[..., 0] = variables
        definitions[..., 1:, 1] = variables[..., :-1]
        definitions[..., 2] = summand + added
        definitions[..., 0, 2] = number + added[..., 0]
        written = np.ones((*shape, 4), bool)
        written[..., 0, 1] = False
        order = rng.permuted(np.tile(np.arange(shape[1] * shape[2]), (n, 1)), axis=1)[..., None]
        shuffle = lambda x: np.take_along_axis(x.reshape(n, -1, 4), order, 1)  # noqa: E731
        opening = shuffle(definitions)[shuffle(written)].reshape(n, self.opening_length)

        at = difficulty[..., None] - 1
        tokens = np.full((n, slots, 4), end)
        tokens[..., 0] = ask
        tokens[..., 1] = np.take_along_axis(variables[:, :slots], at, 2)[..., 0]
        tokens[..., 2] = number + np.take_along_axis(values[:, :slots], at, 2)[..., 0]
        steps = np.where(np.arange(4) == 2, difficulty[..., None], 0)
        return opening, Questions(tokens, np.ones_like(tokens, bool), steps)
