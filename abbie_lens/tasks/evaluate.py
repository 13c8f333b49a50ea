"""Accuracy on a task by iterations and needed steps: do more iterations solve harder questions?

Every depth answers the same questions, each as a forward pass of its own, because a family may plan for
the depth it was begun with. A row holds several questions, which a model may get right or wrong together:
the intervals are Wilson's at the number of independent questions that the spread between rows is worth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from scipy.special import ndtri

from abbie_lens import tasks
from abbie_lens.errors import DepthError, InputError
from abbie_lens.tasks.base import Difficulty, Task, is_int

if TYPE_CHECKING:
    import pandas as pd

ARRAYS = ("accuracy", "low", "high", "n")


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskEvaluation:
    """Share of answers that were the model's first choice."""

    task: dict[str, Any]
    """Settings of the task, as `tasks.decode` reads them."""
    split: str
    seed: int
    n_iters: tuple[int, ...]
    difficulty: tuple[int, ...]
    accuracy: np.ndarray
    """[len(n_iters), len(difficulty)]; NaN where the model refuses the depth."""
    low: np.ndarray
    high: np.ndarray
    """[len(n_iters), len(difficulty)] bounds of the interval."""
    n: np.ndarray
    """[len(difficulty)] answers counted, the same ones at every depth."""
    confidence: float
    chance: float

    def to_frame(self) -> pd.DataFrame:
        """One row per (n_iters, difficulty): accuracy, low, high, n, chance."""
        import pandas as pd

        wide = len(self.difficulty)
        return pd.DataFrame(
            {
                "n_iters": np.repeat(self.n_iters, wide),
                "difficulty": np.tile(self.difficulty, len(self.n_iters)),
                "accuracy": self.accuracy.ravel(),
                "low": self.low.ravel(),
                "high": self.high.ravel(),
                "n": np.tile(self.n, len(self.n_iters)),
                "chance": self.chance,
            }
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN becomes None."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        for name in ARRAYS:
            values = np.array(plain[name], dtype=object)
            values[np.isnan(plain[name])] = None
            plain[name] = values.tolist()
        return {**plain, "n_iters": list(self.n_iters), "difficulty": list(self.difficulty)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> TaskEvaluation:
        """Inverse of `to_dict`."""
        again = {name: np.array(plain[name], dtype=float) for name in ("accuracy", "low", "high")}
        again["n"] = np.array(plain["n"], dtype=np.int64)
        tuples = {name: tuple(plain[name]) for name in ("n_iters", "difficulty")}
        return cls(**{**plain, **again, **tuples})


def accuracy(
    model: Any,
    task: Task,
    n_iters: Sequence[int] = (1, 2, 4, 8),
    difficulty: Difficulty = None,
    *,
    n_instances: int = 500,
    split: str = "test",
    seed: int = 0,
    batch_size: int = 64,
    confidence: float = 0.95,
    progress: Callable[[int, int], object] | None = None,
) -> TaskEvaluation:
    """Accuracy of `model` at every depth of `n_iters` on answers of every difficulty.

    difficulty: one, or a range (the split's own if None); each is asked for by itself, in rows of its own,
    until at least `n_instances` answers of exactly that difficulty are counted. `progress(done, total)`
    counts answers. Memory does not grow with n_instances.
    Errors: InputError (no depth, a model with another vocabulary or a shorter context).
    """
    low, high = task.bounds(difficulty, split)
    depths, difficulties = _depths(n_iters), tuple(range(low, high + 1))
    for argument, value in (("n_instances", n_instances), ("batch_size", batch_size)):
        if not is_int(value) or value < 1:
            raise InputError(f"{argument}={value!r}: expected an integer >= 1.")
    if not 0 < confidence < 1:
        raise InputError(f"confidence={confidence!r}: expected a number between 0 and 1.")
    check_fits(model, task)
    tallies = [Tally(len(depths)) for _ in difficulties]
    refused: set[int] = set()
    was_training = model.training
    model.eval()
    try:
        for number, (steps, tally) in enumerate(zip(difficulties, tallies, strict=True)):
            step = steps << 32  # streams of their own, whichever range is asked for
            while tally.n < n_instances:
                batch = task.sample(seed, batch_size, steps, split=split, step=step)
                answers = batch.difficulty == steps
                right = _right(model, batch.tokens, answers, depths, refused)
                tally.add(right.sum(-1), answers.sum(-1))
                step += 1
                if progress is not None:
                    done = number * n_instances + min(tally.n, n_instances)
                    progress(done, len(difficulties) * n_instances)
    finally:
        model.train(was_training)
    cells = np.stack([tally.interval(confidence) for tally in tallies], -1)
    cells[:, [r in refused for r in depths]] = np.nan
    return TaskEvaluation(
        task=tasks.encode(task),
        split=split,
        seed=int(seed),
        n_iters=depths,
        difficulty=difficulties,
        accuracy=cells[0],
        low=cells[1],
        high=cells[2],
        n=np.array([tally.n for tally in tallies]),
        confidence=confidence,
        chance=task.chance,
    )


class Tally:
    """Answers right and asked, summed over rows, with the sums that their spread needs."""

    def __init__(self, n_depths: int) -> None:
        self.n, self.rows, self.asked_squared = 0, 0, 0
        self.right, self.right_squared, self.crossed = np.zeros((3, n_depths))

    def add(self, right: np.ndarray, asked: np.ndarray) -> None:
        """Rows with `right` [depth, row] of `asked` [row] answers right."""
        self.n += int(asked.sum())
        self.rows += int((asked > 0).sum())
        self.asked_squared += int((asked**2).sum())
        self.right += right.sum(-1)
        self.right_squared += (right**2).sum(-1)
        self.crossed += (right * asked).sum(-1)

    def interval(self, confidence: float) -> np.ndarray:
        """[3, depth] share right, and Wilson's bounds at the effective number of answers.

        The share is a ratio of sums over rows; its variance is that of right - share * asked. Where all
        or none are right the rows show no spread, and each row counts as one answer.
        """
        share = self.right / self.n
        spread = self.right_squared - 2 * share * self.crossed + share**2 * self.asked_squared
        variance = spread / self.n**2
        with np.errstate(divide="ignore", invalid="ignore"):
            effective = np.minimum(self.n, share * (1 - share) / variance)
        effective = np.where((share > 0) & (share < 1), effective, self.rows)
        return np.stack([share, *wilson(share, effective, confidence)])


def wilson(share: np.ndarray, n: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the score interval for a share of n trials (Wilson 1927)."""
    z = ndtri(0.5 + confidence / 2)
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    return np.clip((centre - half) / scale, 0, share), np.clip((centre + half) / scale, share, 1)


@torch.inference_mode()
def _right(
    model: Any, tokens: np.ndarray, answers: np.ndarray, depths: Sequence[int], refused: set[int]
) -> np.ndarray:
    """[depth, row, pos - 1] whether the first choice is the token that follows, where that is an answer.

    Padding needs no mask: it stands behind all that is asked. Refused depths are noted in `refused`.
    """
    right = np.zeros((len(depths), *tokens[:, 1:].shape), bool)
    ids = torch.from_numpy(tokens).to(model.device)
    for i, r in enumerate(depths):
        if r in refused:
            continue
        try:
            choice = model(ids, n_iters=r)[:, :-1].argmax(-1).cpu().numpy()
        except DepthError:
            refused.add(r)
            continue
        right[i] = (choice == tokens[:, 1:]) & answers[:, 1:]
    return right


def _depths(n_iters: Sequence[int]) -> tuple[int, ...]:
    depths = tuple(n_iters) if isinstance(n_iters, Sequence) else ()
    if not depths or not all(is_int(r) and r >= 0 for r in depths):
        raise InputError(f"n_iters={n_iters!r}: expected a sequence of integers >= 0, not empty.")
    return tuple(map(int, depths))


def check_fits(model: Any, task: Task) -> None:
    """Raise InputError where the model was not made for the task's words or length."""
    cfg, tokenizer = model.cfg, model.tokenizer
    if cfg.d_vocab < task.d_vocab or cfg.n_ctx < task.n_ctx:
        raise InputError(
            f"model: d_vocab={cfg.d_vocab}, n_ctx={cfg.n_ctx}; task {task.name} as set needs at least "
            f"{task.d_vocab} and {task.n_ctx}."
        )
    if tokenizer is not None:
        known = tokenizer.get_vocab()
        other = [word for word, i in task.vocabulary.items() if known.get(word) != i]
        if other:
            raise InputError(
                f"model: its tokenizer has another number for {other[0]!r} than task {task.name} as set; "
                "expected a model trained on this task with these settings."
            )
