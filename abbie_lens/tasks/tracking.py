"""Tracking shuffled objects: things lie in boxes, boxes swap their contents, what lies in one in the end?

    c a e b d 1-3 2-4 3-5 ? 5 c ;      c lay in box 1, went to 3, then to 5

The first words are the contents of box 1, 2, …; `1-3` swaps what is in boxes 1 and 3. Between the swaps
that move the object asked for lie swaps that do not, none to two each time, so that the length of the
story does not tell how far it went; it never goes straight back.

Steps: swaps that move the object asked for. What swaps others is passed over by looking for the last
swap that names a box. One question a story: the other boxes' contents would narrow down the last.
"""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from abbie_lens.files.tokenizer import END_OF_TEXT
from abbie_lens.tasks.base import Task, is_int
from abbie_lens.tasks.batch import Questions

PASSING = 2
"""Most swaps of other objects before and after each swap that counts."""


@dataclass(frozen=True, kw_only=True)
class Tracking(Task):
    """What lies in a box after swaps. Steps: swaps that move it. Chance: 1 / n_objects."""

    name: ClassVar[str] = "tracking"
    asks: ClassVar[str] = "what lies in a box after boxes swapped their contents"
    steps: ClassVar[str] = "one swap of the object asked for"

    n_objects: int = 5

    def check(self) -> None:
        """Errors: ConfigError where an object had nowhere to go but back, or boxes had no digit."""
        self.require(
            is_int(self.n_objects) and 4 <= self.n_objects <= 9,
            "n_objects",
            "an integer from 4 to 9",
        )

    @property
    def words(self) -> tuple[str, ...]:
        """`;`, `?`, boxes, objects and swaps."""
        boxes = [str(i + 1) for i in range(self.n_objects)]
        swaps = [f"{a}-{b}" for a in boxes for b in boxes if a < b]
        return (";", "?", *boxes, *string.ascii_lowercase[: self.n_objects], *swaps)

    @property
    def chance(self) -> float:
        """Each object is equally often the answer."""
        return 1 / self.n_objects

    def shortest(self, difficulty: int) -> int:
        """Contents, swaps, `?`, box, answer, `;`."""
        return self.n_objects + difficulty + 4

    def longest(self, difficulty: int) -> int:
        """With every passing swap."""
        return self.shortest(difficulty) + PASSING * (difficulty + 1)

    def needed(self, words: Sequence[str]) -> list[int]:
        """Swaps that brought the content of the box after `?` there, traced back."""
        steps, swaps = [0] * len(words), []
        for i, word in enumerate(words):
            if "-" in word:
                swaps.append(word.split("-"))
            elif i and words[i - 1] == "?":
                for swap in reversed(swaps):
                    if word in swap:
                        steps[i] += 1
                        word = swap[swap[0] == word]
            elif word.isalpha() or word == END_OF_TEXT:
                swaps = []
        return steps

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """Stories told forwards along the way of one object."""
        shape = difficulty.shape
        letters = self.ids(string.ascii_lowercase[: self.n_objects])
        contents = rng.permuted(np.broadcast_to(letters, (*shape, self.n_objects)), axis=-1)
        swap, others = self._swaps()
        before = np.full(shape, -1)
        box = rng.integers(self.n_objects, size=shape)
        thing = np.take_along_axis(contents, box[..., None], -1)[..., 0]
        tokens, present = [*np.moveaxis(contents, -1, 0)], [np.ones(shape, bool)] * self.n_objects
        for move in range(int(difficulty.max()) + 1):
            if move:
                moves = difficulty >= move
                there = self._next(rng, box, before)
                tokens.append(swap[box, there])
                present.append(moves)
                before, box = np.where(moves, box, before), np.where(moves, there, box)
            passing = rng.integers(PASSING + 1, size=shape)
            for i in range(PASSING):
                tokens.append(others[box, rng.integers(others.shape[1], size=shape)])
                present.append((difficulty >= move) & (i < passing))
        end, ask, first_box = self.ids(";?1")
        for token in (np.full(shape, ask), first_box + box, thing, np.full(shape, end)):
            tokens.append(token)
            present.append(np.ones(shape, bool))
        steps = np.zeros((*shape, len(tokens)), np.int64)
        steps[..., -2] = difficulty
        return np.empty((len(difficulty), 0), np.int64), Questions(
            np.stack(tokens, -1), np.stack(present, -1), steps
        )

    def _next(self, rng: np.random.Generator, box: np.ndarray, before: np.ndarray) -> np.ndarray:
        """A box that is neither this one nor the one before."""
        boxes = np.arange(self.n_objects)
        score = rng.random((*box.shape, self.n_objects), dtype=np.float32)
        score[(boxes == box[..., None]) | (boxes == before[..., None])] = -1
        return score.argmax(-1)

    def _swaps(self) -> tuple[np.ndarray, np.ndarray]:
        """Token of the swap of [box, box], and for each box the swaps of two others."""
        boxes = range(self.n_objects)
        swap = np.zeros((self.n_objects, self.n_objects), np.int64)
        for a in boxes:
            for b in boxes:
                if a != b:
                    swap[a, b] = self.vocabulary[f"{min(a, b) + 1}-{max(a, b) + 1}"]
        others = [
            [swap[a, b] for b in boxes for a in range(b) if box not in (a, b)] for box in boxes
        ]
        return swap, np.array(others)
