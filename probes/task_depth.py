"""Do more iterations solve harder questions, and does a halting rule spend more of them there? (tasks of known depth)

Accuracy is `abbie_lens.tasks.evaluate`'s, a run for each depth. Exit steps come from a replay of further rows
of the same split (`probes.halting`), joined with the steps that each answer needs; the replay also holds the
model's answer after every k. Beside the model stand random weights of the same architecture, the best guess
that is the same for every question (chance), and the most frequent answer among those asked (majority).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens import tasks
from abbie_lens.errors import InputError
from abbie_lens.tasks import evaluate
from abbie_lens.tasks.base import Difficulty, Task, is_int
from probes.early_exit.replay import Halting, halting
from probes.progress import Callback, Progress
from probes.result import Result
from probes.task_exits import TaskExits, exits

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

_ROWS_STEP = 1 << 31
"""Stream of the replayed rows: a step that no row of the accuracy has."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskDepth(Result):
    """Accuracy by iterations and needed steps with its controls, and a replay of halting on the same task."""

    title: ClassVar[str] = "Depth on a task"
    formula: ClassVar[str] = (
        "share of answers whose most probable token after r iterations is right, a run for each r"
    )

    task: dict[str, Any]
    """Settings, as `tasks.decode` reads them."""
    steps: str
    """What one step is."""
    split: str
    seed: int
    depths: np.ndarray
    """[depth] numbers of iterations."""
    difficulty: np.ndarray
    """[difficulty] needed steps."""
    accuracy: np.ndarray
    low: np.ndarray
    high: np.ndarray
    """[depth, difficulty] share right and the bounds of its interval; NaN where the model refuses the depth."""
    control: np.ndarray
    """[depth, difficulty] the same questions, random weights; NaN where not asked for or refused."""
    control_low: np.ndarray
    control_high: np.ndarray
    n: np.ndarray
    """[difficulty] answers counted."""
    confidence: float
    chance: float
    """Accuracy of the best guess that is the same for every question."""
    majority: np.ndarray
    """[difficulty] share of the most frequent answer among those of the replay; NaN where none was asked."""
    replay: Halting
    """Rows of the task, every halting rule at every k; `valid` leaves padding out."""
    replay_control: Halting | None
    """The same rows, random weights."""
    needed: np.ndarray
    """[batch, pos] steps that the *next* token needs; 0 where it is no answer."""
    answers: np.ndarray
    """[batch, pos] id of the next token where it is an answer; -1 elsewhere."""

    @property
    def trained_difficulty(self) -> tuple[int, int]:
        """Lowest and highest number of steps that the task trains on."""
        return tasks.decode(_lists(self.task)).train_difficulty

    @property
    def right(self) -> np.ndarray:
        """[k, batch, pos] 1 where the model's answer after k is right, 0 where not, NaN where none is due."""
        due = self.answers >= 0
        return np.where(due, self.replay.prediction == self.answers, np.nan)

    def exits(self, rule: str = "kl", threshold: float | None = None) -> TaskExits:
        """Exit step of every answer under `rule` against the steps it needs. Errors: InputError."""
        return exits(self, rule, threshold)

    def to_frame(self) -> pd.DataFrame:
        """One row per depth and difficulty: accuracy of the model and of random weights, chance, majority."""
        import pandas as pd

        depth, difficulty = np.indices(self.accuracy.shape)
        hardest = self.trained_difficulty[1]
        columns = {
            "n_iters": self.depths[depth.ravel()],
            "difficulty": self.difficulty[difficulty.ravel()],
            **{
                name: getattr(self, name).ravel()
                for name in ("accuracy", "low", "high", "control", "control_low", "control_high")
            },
            "n": self.n[difficulty.ravel()],
            "chance": self.chance,
            "majority": self.majority[difficulty.ravel()],
        }
        frame = pd.DataFrame(columns)
        return frame.assign(beyond_training=frame["difficulty"] > hardest)

    def figure(self, *, theme: str = "light", view: str = "grid", **options: Any) -> go.Figure:
        """`view="grid"`: accuracy over steps × iterations beside random weights; `"curves"`: against r, a line
        a difficulty; `"answers"`: the model's answers of one row (`batch=`) after every k."""
        from probes.figures import task_depth as figures

        return figures.draw(self, view=view, theme=theme, **options)


def task_depth(
    model: Any,
    task: Task,
    n_iters: int = 8,
    difficulty: Difficulty = None,
    *,
    n_answers: int = 200,
    n_rows: int = 32,
    split: str = "test",
    control: bool = True,
    rules: Sequence[Any] | None = None,
    seed: int = 0,
    progress: Callback | None = None,
) -> TaskDepth:
    """Accuracy of `model` on `task` after 0 … `n_iters` iterations, and halting on `n_rows` of its rows.

    difficulty: needed steps asked for, the split's range if None. n_answers: at least so many a difficulty.
    A model that has no more than some depth is replayed to that one. Errors: InputError for a model whose
    tokens are not the task's, or bad arguments; Cancelled.
    """
    if not is_int(n_iters) or n_iters < 1:
        raise InputError(f"n_iters={n_iters!r}: expected an integer >= 1.")
    if not is_int(n_rows) or n_rows < 2:
        raise InputError(f"n_rows={n_rows!r}: expected an integer >= 2.")
    evaluate.check_fits(model, task)
    low, high = task.bounds(difficulty, split)
    fresh = model.randomized(seed) if control else None
    total = (high - low + 1) * n_answers
    steps = Progress((1 + control) * (total + 1), progress)
    depths = tuple(range(n_iters + 1))

    def measured(judged: Any) -> evaluate.TaskEvaluation:
        before = steps.done

        def tell(done: int, _: int) -> None:
            steps.step(before + done - steps.done)

        return evaluate.accuracy(
            judged, task, depths, (low, high),
            n_instances=n_answers, split=split, seed=seed, progress=tell,
        )  # fmt: skip

    batch = task.sample(seed, n_rows, (low, high), split=split, step=_ROWS_STEP)
    deepest = _deepest(model, n_iters)

    def replayed(judged: Any) -> Halting:
        run = halting(judged, batch.tokens, deepest, rules=rules, attention_mask=batch.real)
        steps.step()
        return run

    found, replay = measured(model), replayed(model)
    beside, replay_control = (None, None) if fresh is None else (measured(fresh), replayed(fresh))
    needed, answers = labels_of(task, batch.tokens, batch.real)
    nothing = np.full(found.accuracy.shape, np.nan)
    return TaskDepth(
        model=model.info(),
        tokens=replay.tokens,
        n_iters=n_iters,
        task=tasks.encode(task),
        steps=task.steps,
        split=split,
        seed=seed,
        depths=np.array(depths),
        difficulty=np.array(found.difficulty),
        accuracy=found.accuracy,
        low=found.low,
        high=found.high,
        control=nothing if beside is None else beside.accuracy,
        control_low=nothing if beside is None else beside.low,
        control_high=nothing if beside is None else beside.high,
        n=found.n,
        confidence=found.confidence,
        chance=task.chance,
        majority=_majority(needed, answers, found.difficulty),
        replay=replay,
        replay_control=replay_control,
        needed=needed,
        answers=answers,
    )


def labels_of(task: Task, tokens: np.ndarray, real: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """[batch, pos] steps that the next token needs and its id, where it is an answer (0 and -1 elsewhere)."""
    table = task.labels(tokens, real)
    # A question may end with the row: then its answer is nowhere to be seen.
    shown = (table["counted"] & table["answer"].notna()).to_numpy()
    row, position, steps = (
        table[name].fillna(0).to_numpy(dtype=np.int64)[shown]
        for name in ("batch", "position", "difficulty")
    )
    needed, answers = np.zeros_like(tokens), np.full_like(tokens, -1)
    needed[row, position] = steps
    answers[row, position] = tokens[row, position + 1]
    return needed, answers


def _majority(needed: np.ndarray, answers: np.ndarray, difficulty: Sequence[int]) -> np.ndarray:
    shares = []
    for steps in difficulty:
        asked = answers[needed == steps]
        shares.append(np.bincount(asked).max() / asked.size if asked.size else np.nan)
    return np.array(shares)


def _deepest(model: Any, n_iters: int) -> int:
    most = model.cfg.loop.max_depth
    return n_iters if most is None else min(n_iters, most)


def _lists(plain: dict[str, Any]) -> dict[str, Any]:
    """Settings as JSON has them: a stored result comes back with tuples."""
    return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}
