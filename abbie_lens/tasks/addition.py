"""Character addition with carries: two numbers of equal length, digit by digit.

    0 4 7 5 + 3 1 2 6 = 0 3 6 0 1 ;

Whether a carry reaches a digit depends on the two digits to its right, unless these add up to 9: then it
depends on the two further right, and so on. The asked difficulty d puts d - 1 such nines in a row, to the
right of one digit, and none anywhere else; whether the carry comes is a fair coin.

`most-first` (as people write; the default): a digit needs 1 step, and 1 more for each nine that stands
directly to its right. A digit that is itself above a nine needs 1: the digit before it, already written,
has told. `least-first`: the digits already written always tell the carry, so that one step would do for
every digit; the label is the same count of nines all the same. It is the control in which a longer chain
should not need more iterations.

Chance is for the digit that the chain reaches, 1/9 (9 itself is rarer); the first digit of the sum, which
always needs 1 step, is 0 or 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions

ORDERS = ("most-first", "least-first")
DIGITS = "0123456789"
OTHER_PAIRS = np.array([(a, b) for a in range(10) for b in range(10) if a + b != 9])


@dataclass(frozen=True, kw_only=True)
class Addition(Task):
    """The digits of a sum. Steps: 1, and 1 for each nine that passes a carry on. Chance: 1/9."""

    name: ClassVar[str] = "addition"
    asks: ClassVar[str] = "the digits of a sum"
    steps: ClassVar[str] = "one pair of digits that a carry may have passed through"

    train_difficulty: tuple[int, int] = (1, 3)
    test_difficulty: tuple[int, int] = (1, 6)
    n_digits: int = 8
    """Digits of each number, leading zeros included; the sum has one more."""
    order: str = "most-first"

    def check(self) -> None:
        """Errors: ConfigError for an unknown order, or numbers too short for the longest chain."""
        self.require(self.order in ORDERS, "order", f"one of {ORDERS}")
        least = self.hardest + 1
        self.require(
            is_int(self.n_digits) and least <= self.n_digits <= 1000,
            "n_digits",
            f"an integer from {least} (the hardest chain and the digit it reaches) to 1000",
        )

    @property
    def words(self) -> tuple[str, ...]:
        """`;`, `+`, `=` and the digits."""
        return (";", "+", "=", *DIGITS)

    @property
    def chance(self) -> float:
        """A pair that is no nine, and a fair carry, make each of 1 … 8 with probability 1/9."""
        return 1 / 9

    def shortest(self, difficulty: int) -> int:
        """Both numbers, their sum, and three signs."""
        return 3 * self.n_digits + 4

    def needed(self, words: Sequence[str]) -> list[int]:
        """After `=`: the steps of each digit of the sum in turn."""
        steps, numbers = [0] * len(words), [[]]
        due: list[int] = []
        for i, word in enumerate(words):
            if word == "=" and len(numbers) == 2 and len(numbers[0]) == len(numbers[1]) > 0:
                a, b = (x if self.order == "least-first" else x[::-1] for x in numbers)
                due = self._steps(np.array(a) + np.array(b) == 9).tolist()
                due = due if self.order == "least-first" else due[::-1]
            elif word == "+" and not due:
                numbers.append([])
            elif not word.isdigit():
                numbers, due = [[]], []
            elif not due:
                numbers[-1].append(int(word))
            steps[i] = due.pop(0) if due else 0
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """Sums with one chain of the asked length each; digit 0 is the least significant."""
        shape, n = difficulty.shape, self.n_digits
        place = np.arange(n)
        reached = rng.integers(difficulty, n)[..., None]
        nine = (place < reached) & (place > reached - difficulty[..., None])
        a, b = np.moveaxis(OTHER_PAIRS[rng.integers(len(OTHER_PAIRS), size=(*shape, n))], -1, 0)
        a = np.where(nine, rng.integers(10, size=nine.shape), a)
        b = np.where(nine, 9 - a, b)
        total, carry = np.zeros((*shape, n + 1), np.int64), np.zeros(shape, np.int64)
        for i in range(n):
            carry, total[..., i] = np.divmod(a[..., i] + b[..., i] + carry, 10)
        total[..., n] = carry
        steps = self._steps(nine)
        if self.order == "most-first":
            a, b, total, steps = (x[..., ::-1] for x in (a, b, total, steps))
        end, plus, equals, zero = self.ids(";+=0")
        sign = lambda token: np.full((*shape, 1), token)  # noqa: E731
        tokens = np.concatenate(
            [zero + a, sign(plus), zero + b, sign(equals), zero + total, sign(end)], -1
        )
        labels = np.zeros_like(tokens)
        labels[..., 2 * n + 2 : -1] = steps
        return np.empty((len(tokens), 0), np.int64), Questions(
            tokens, np.ones_like(tokens, bool), labels
        )

    def _steps(self, nine: np.ndarray) -> np.ndarray:
        """[..., n_digits + 1] steps of each digit of the sum, given what stands before it."""
        steps = np.ones((*nine.shape[:-1], nine.shape[-1] + 1), np.int64)
        for i in range(nine.shape[-1]):
            steps[..., i + 1] += np.where(nine[..., i], steps[..., i], 0)
        if self.order == "most-first":
            steps[..., :-1][nine] = 1
        return steps
