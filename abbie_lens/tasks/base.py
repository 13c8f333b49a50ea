"""The interface of a task: what a row shows, which tokens answer, how many steps each answer needs.

A row is `<|endoftext|>`, an opening (facts that all questions share; empty for most tasks) and as many
questions as fit, each with its answer behind it. It is plain next-token text, so every analysis reads
it as it reads prose. Answers are in the row, hence a question is only asked where no earlier answer
makes it easier: the number of steps is that of the token *in its context*.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import ConfigError, InputError
from abbie_lens.files.tokenizer import END_OF_TEXT
from abbie_lens.tasks.batch import Questions, TaskBatch, label_table, pack
from abbie_lens.tasks.words import word_tokenizer

if TYPE_CHECKING:
    import pandas as pd
    from transformers import PreTrainedTokenizerFast

SPLITS = ("train", "test")
Difficulty = int | tuple[int, int] | None
"""One difficulty, an inclusive range of them, or None for the split's own range."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """Base of all tasks: settings of plain JSON types; generation is a pure function of (settings, split, seed, step).

    Errors: ConfigError for settings that contradict each other.
    """

    name: ClassVar[str]
    """Name in `TASKS` and in config files."""
    asks: ClassVar[str]
    """What is asked, in one line."""
    steps: ClassVar[str]
    """What one step is, in one line."""

    n_ctx: int = 96
    """Positions of a row; what the questions leave over is padding."""
    train_difficulty: tuple[int, int] = (1, 4)
    """Lowest and highest number of steps asked for in training."""
    test_difficulty: tuple[int, int] = (1, 8)
    """Lowest and highest number of steps asked for in the test."""

    def __post_init__(self) -> None:
        for field in ("train_difficulty", "test_difficulty"):
            value = getattr(self, field)
            pair = whole_pair(value)
            if pair is None or not 1 <= pair[0] <= pair[1]:
                raise ConfigError(
                    f"{field}={value!r}: expected (lowest, highest) with 1 <= lowest <= highest."
                )
            object.__setattr__(self, field, pair)
        self.check()
        need = 1 + self.opening_length + self.longest(self.hardest)
        self.require(
            is_int(self.n_ctx) and self.n_ctx >= need,
            "n_ctx",
            f"an integer >= {need}, one question of difficulty {self.hardest}",
        )

    # -- what a task says ---------------------------------------------------------------------------------

    @property
    def words(self) -> tuple[str, ...]:
        """The vocabulary without `<|endoftext|>`; none holds a space."""
        raise NotImplementedError

    @property
    def chance(self) -> float:
        """Accuracy of the best guess that is the same for every question."""
        raise NotImplementedError

    @property
    def opening_length(self) -> int:
        """Tokens of the opening."""
        return 0

    def check(self) -> None:
        """Raise ConfigError where the task's own settings contradict each other."""

    def shortest(self, difficulty: int) -> int:
        """Least number of tokens of a question and its answer."""
        raise NotImplementedError

    def longest(self, difficulty: int) -> int:
        """Greatest number of tokens of a question and its answer."""
        return self.shortest(difficulty)

    def slots(self, lowest: int) -> int:
        """Most questions that a row can hold."""
        return (self.n_ctx - 1 - self.opening_length) // self.shortest(lowest)

    def draw(
        self, rng: np.random.Generator, difficulty: np.ndarray
    ) -> tuple[np.ndarray, Questions]:
        """Opening [n, opening_length] and questions for the asked difficulty [n, slot].

        The hardest answer of a question has the asked difficulty; it may come with easier ones.
        """
        raise NotImplementedError

    def needed(self, words: Sequence[str]) -> list[int]:
        """[pos] steps that the token after each word needs, 0 where it is no answer or makes no sense.

        words: any prompt of this vocabulary, also one that ends where an answer is due.
        """
        raise NotImplementedError

    # -- what it gives ------------------------------------------------------------------------------------

    def sample(
        self,
        seed: int | np.random.Generator,
        n: int,
        difficulty: Difficulty = None,
        *,
        split: str = "train",
        step: int = 0,
    ) -> TaskBatch:
        """`n` rows of a split: equal (settings, split, seed, step) give equal rows; other splits, other streams.

        difficulty: within 1 … `hardest`, drawn uniformly for every question. A Generator in place of
        the seed is drawn from as it stands. Errors: InputError.
        """
        low, high = self.bounds(difficulty, split)
        rng = seed if isinstance(seed, np.random.Generator) else stream(split, seed, step)
        if not is_int(n) or n < 1:
            raise InputError(f"n={n!r}: expected an integer >= 1.")
        asked = rng.integers(low, high + 1, size=(n, max(1, self.slots(low))))
        return pack(*self.draw(rng, asked), n_ctx=self.n_ctx)

    def labels(self, tokens: np.ndarray, real: np.ndarray | None = None) -> pd.DataFrame:
        """Labels of any prompts of this task, typed ones too: token ids [n, pos], mask [n, pos].

        The columns are those of `batch.label_table`, which join with the analyses of the same prompts.
        """
        words = np.array((END_OF_TEXT, *self.words), dtype=object)
        tokens = np.atleast_2d(tokens)
        real = np.ones(tokens.shape, bool) if real is None else np.atleast_2d(real).astype(bool)
        following = np.zeros_like(tokens)
        for row, mask, steps in zip(tokens, real, following, strict=True):
            steps[mask] = self.needed(words[row[mask]].tolist())
        return label_table(tokens, following, real, words[tokens].tolist())

    def bounds(self, difficulty: Difficulty, split: str = "train") -> tuple[int, int]:
        """Lowest and highest difficulty meant. Errors: InputError naming what is allowed."""
        if split not in SPLITS:
            raise InputError(f"split={split!r}: expected one of {SPLITS}.")
        if difficulty is None:
            return self.train_difficulty if split == "train" else self.test_difficulty
        pair = whole_pair((difficulty, difficulty) if is_int(difficulty) else difficulty)
        if pair is None or not 1 <= pair[0] <= pair[1] <= self.hardest:
            raise InputError(
                f"difficulty={difficulty!r}: expected an integer or (lowest, highest) within 1 and "
                f"{self.hardest}, the hardest that this task was made for."
            )
        return pair

    @property
    def hardest(self) -> int:
        """Highest difficulty of either split."""
        return max(self.train_difficulty[1], self.test_difficulty[1])

    @cached_property
    def vocabulary(self) -> dict[str, int]:
        """Token id of every word; `<|endoftext|>` is 0."""
        return {word: i for i, word in enumerate((END_OF_TEXT, *self.words))}

    @property
    def d_vocab(self) -> int:
        """Size of the vocabulary."""
        return len(self.words) + 1

    def ids(self, words: Any) -> np.ndarray:
        """Token ids of a sequence of words."""
        return np.array([self.vocabulary[word] for word in words], dtype=np.int64)

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """A fast tokenizer of this vocabulary; words are separated by spaces."""
        return word_tokenizer(self.vocabulary)

    def text(self, tokens: np.ndarray) -> str:
        """One row [pos] as a prompt: words and spaces, without `<|endoftext|>` and padding."""
        words = (END_OF_TEXT, *self.words)
        return " ".join(words[i] for i in np.asarray(tokens).tolist() if i)

    def require(self, ok: bool, field: str, allowed: str) -> None:
        """Raise ConfigError for a setting unless `ok`."""
        if not ok:
            raise ConfigError(
                f"task {self.name}: {field}={getattr(self, field)!r}: expected {allowed}."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, tagged by `task`."""
        plain = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }
        return {"task": self.name, **plain}


def stream(split: str, seed: int, step: int) -> np.random.Generator:
    """The random numbers of (split, seed, step): Philox streams of different keys share nothing."""
    if split not in SPLITS:
        raise InputError(f"split={split!r}: expected one of {SPLITS}.")
    for argument, value in (("seed", seed), ("step", step)):
        if not is_int(value) or not 0 <= value < 1 << 62:
            raise InputError(f"{argument}={value!r}: expected an integer >= 0 and below 2^62.")
    return np.random.Generator(np.random.Philox(key=[seed, 2 * step + SPLITS.index(split)]))


def is_int(value: object) -> bool:
    """Whether `value` is a whole number and not a truth value."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def whole_pair(value: Any) -> tuple[int, int] | None:
    """`value` as a pair of whole numbers, None if it is not one."""
    if not isinstance(value, list | tuple) or len(value) != 2 or not all(map(is_int, value)):
        return None
    return int(value[0]), int(value[1])
