"""Dyck depth: which bracket must close next, in words of nested brackets of several kinds.

    ( [ ] { [ ] } )

The answers are the closing brackets. Which one must come is known from the last bracket still open, and
that is found by striking out pairs: first those that stand side by side, then those that these left side
by side, and so on (a transformer recognises depth D with about D layers this way: Yao et al. 2021).

Steps: rounds of striking out after which a bracket and its partner are side by side, that is, the depth
of the brackets between them plus 1. Every question is one bracket around d - 1 others, with pairs `[ ]`
strewn in, which keep brackets from closing at the mirror image of their opening. A label that stated the
depth at each position would be the next one give or take one, hence a single step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions

OPENING, CLOSING = "([{<", ")]}>"


@dataclass(frozen=True, kw_only=True)
class Dyck(Task):
    """The bracket that closes next. Steps: depth of what lies between it and its partner, plus 1. Chance: 1 / n_kinds."""

    name: ClassVar[str] = "dyck"
    asks: ClassVar[str] = "which bracket closes next"
    steps: ClassVar[str] = "one round of striking out neighbouring pairs"

    n_kinds: int = 4
    """Kinds of brackets."""

    def check(self) -> None:
        """Errors: ConfigError for more kinds than there are brackets."""
        most = len(OPENING)
        self.require(
            is_int(self.n_kinds) and 2 <= self.n_kinds <= most,
            "n_kinds",
            f"an integer from 2 to {most}",
        )

    @property
    def words(self) -> tuple[str, ...]:
        """Opening, then closing brackets."""
        return (*OPENING[: self.n_kinds], *CLOSING[: self.n_kinds])

    @property
    def chance(self) -> float:
        """Each kind is equally often the answer."""
        return 1 / self.n_kinds

    def shortest(self, difficulty: int) -> int:
        """The nested brackets alone."""
        return 2 * difficulty

    def longest(self, difficulty: int) -> int:
        """With a pair before every opening and after every closing bracket."""
        return 6 * difficulty

    def needed(self, words: Sequence[str]) -> list[int]:
        """Before a closing bracket, or the prompt's end: depth of what the last open one holds, plus 1."""
        steps, held = [0] * len(words), []
        for i, word in enumerate(words):
            if word in OPENING:
                held.append(0)
            elif word in CLOSING and held:
                depth = held.pop() + 1
                if held:
                    held[-1] = max(held[-1], depth)
            else:
                held = []
            if held and (i + 1 == len(words) or words[i + 1] in CLOSING):
                steps[i] = held[-1] + 1
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """Words laid out as levels, down and up, each with a place for a pair beside the bracket."""
        shape, deepest = difficulty.shape, int(difficulty.max())
        level = np.arange(deepest)
        kinds = rng.integers(self.n_kinds, size=(*shape, 3, deepest))
        strewn = rng.random((*shape, 2, deepest)) < 0.5
        there = level < difficulty[..., None]
        tokens = np.zeros((*shape, 2, deepest, 3), np.int64)
        steps = np.zeros_like(tokens)
        present = np.zeros(tokens.shape, bool)
        # Down: pair, opening bracket. Up, mirrored further below: closing bracket, pair.
        for way, (pair, bracket) in enumerate((((0, 1), 2), ((1, 2), 0))):
            for place, side in zip(pair, (0, self.n_kinds), strict=True):
                tokens[..., way, :, place] = 1 + side + kinds[..., way, :]
                present[..., way, :, place] = strewn[..., way, :] & there
            steps[..., way, :, pair[1]] = 1
            tokens[..., way, :, bracket] = 1 + way * self.n_kinds + kinds[..., 2, :]
            present[..., way, :, bracket] = there
        steps[..., 1, :, 0] = difficulty[..., None] - level
        for x in (tokens, steps, present):
            x[..., 1, :, :] = x[..., 1, ::-1, :].copy()
        flat = (*shape, 6 * deepest)
        return np.empty((len(difficulty), 0), np.int64), Questions(
            tokens.reshape(flat), present.reshape(flat), np.where(present, steps, 0).reshape(flat)
        )
