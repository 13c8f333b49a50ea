"""Exit step of a halting rule against the number of steps that an answer needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import InputError
from probes.early_exit.outcome import EXIT_FORMULA
from probes.early_exit.replay import Halting
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from probes.task_depth import TaskDepth

_DRAWS, _CONFIDENCE = 1000, 0.95


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskExits(Result):
    """Every answer's exit step and needed steps, for the model and for random weights.

    Intervals are percentile bootstraps over rows, since answers of one row may stop together. The last axis of
    `means` and `correlation` is (value, low, high); NaN where undefined, also a correlation with a constant.
    """

    title: ClassVar[str] = "Exit step against needed steps"
    formula: ClassVar[str] = EXIT_FORMULA

    rule: dict[str, Any]
    threshold: float
    row: np.ndarray
    """[answer] row of the answer."""
    position: np.ndarray
    """[answer] position that predicts it."""
    needed: np.ndarray
    """[answer] steps that it needs."""
    exit_step: np.ndarray
    """[answer] iterations spent on it."""
    fired: np.ndarray
    """[answer] whether the rule fired; what never stops exits at r."""
    right: np.ndarray
    """[answer] 1 where the answer at the exit is right, 0 where not; NaN for a diverged prediction."""
    control: np.ndarray
    """[answer] exit steps of random weights; -1 where there are none."""
    difficulty: np.ndarray
    """[difficulty] needed steps that occur."""
    means: np.ndarray
    """[difficulty, 3] mean exit step."""
    control_means: np.ndarray
    """[difficulty, 3]"""
    correlation: np.ndarray
    """[3] Spearman's, of exit step and needed steps over answers."""
    control_correlation: np.ndarray
    """[3]"""
    trained_difficulty: tuple[int, int]

    def to_frame(self) -> pd.DataFrame:
        """One row per answer."""
        import pandas as pd

        names = ("row", "position", "needed", "exit_step", "fired", "right")
        frame = pd.DataFrame({name: getattr(self, name) for name in names})
        frame["token"] = [
            self.tokens[b][p + 1] for b, p in zip(self.row, self.position, strict=True)
        ]
        frame["exit_step_random_weights"] = np.where(self.control < 0, np.nan, self.control)
        return frame.assign(rule=self.rule["name"], threshold=self.threshold)

    def figure(self, *, theme: str = "light") -> go.Figure:
        """Share of answers by exit step for every number of needed steps, with means and intervals."""
        from probes.figures import task_exits as figures

        return figures.draw(self, theme=theme)


def exits(depth: TaskDepth, rule: str, threshold: float | None) -> TaskExits:
    """Exit steps of the answers in the replay. Errors: InputError for an unknown rule, or without any answer."""
    row, position = np.nonzero(depth.needed)
    if not len(row):
        raise InputError("task: no row of the replay asks a question; take more rows.")
    needed = depth.needed[row, position]
    outcome = depth.replay.at(rule, threshold)
    exit_step = outcome.exit_step[row, position]
    guess = depth.replay.prediction[exit_step, row, position]
    right = np.where(guess < 0, np.nan, guess == depth.answers[row, position])
    control = np.full(len(row), -1)
    if depth.replay_control is not None:
        control = _steps(depth.replay_control, rule, outcome.threshold)[row, position]
    difficulty = np.unique(needed)
    means, correlation = by_difficulty(row, needed, exit_step, difficulty, depth.seed)
    control_means, control_correlation = by_difficulty(row, needed, control, difficulty, depth.seed)
    return TaskExits(
        model=depth.model,
        tokens=depth.tokens,
        n_iters=depth.replay.n_iters,
        rule=outcome.rule,
        threshold=outcome.threshold,
        row=row,
        position=position,
        needed=needed,
        exit_step=exit_step,
        fired=outcome.fired[row, position],
        right=right,
        control=control,
        difficulty=difficulty,
        trained_difficulty=depth.trained_difficulty,
        means=means,
        correlation=correlation,
        control_means=control_means,
        control_correlation=control_correlation,
    )


def _steps(replay: Halting, rule: str, threshold: float) -> np.ndarray:
    return replay.at(rule, threshold).exit_step


def by_difficulty(
    row: np.ndarray, needed: np.ndarray, steps: np.ndarray, difficulty: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mean steps by needed steps [difficulty, 3] and Spearman's correlation [3], over answers.

    The last axis is (value, low, high), 95 % bootstraps over rows; all NaN where a step is negative.
    """
    means, correlation = np.full((len(difficulty), 3), np.nan), np.full(3, np.nan)
    if (steps >= 0).all():
        draws = _draws(row, seed)
        for i, level in enumerate(difficulty):
            weight = draws * (needed == level)
            with np.errstate(invalid="ignore"):
                means[i] = _with_interval(
                    float(steps[needed == level].mean()), weight @ steps / weight.sum(1)
                )
        again = [spearman(needed, steps, weight) for weight in draws]
        correlation = _with_interval(spearman(needed, steps), np.array(again))
    return means, correlation


def _draws(row: np.ndarray, seed: int) -> np.ndarray:
    """[draw, answer] how often each answer is in a bootstrap draw of whole rows."""
    names, which = np.unique(row, return_inverse=True)
    generator = np.random.default_rng(seed)
    return generator.multinomial(len(names), [1 / len(names)] * len(names), _DRAWS)[:, which]


def _with_interval(value: float, draws: np.ndarray) -> np.ndarray:
    """[3] the value and the percentiles of the draws that are defined; NaN bounds where most are not."""
    defined = draws[np.isfinite(draws)]
    if not np.isfinite(value) or 2 * defined.size < draws.size:
        return np.array([value, np.nan, np.nan])
    tail = (1 - _CONFIDENCE) / 2
    return np.array([value, *np.quantile(defined, [tail, 1 - tail])])


def spearman(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Spearman's rank correlation, each pair counted `weight` times; NaN where one side is constant."""
    from scipy.stats import rankdata

    if weight is not None:
        x, y = np.repeat(x, weight), np.repeat(y, weight)
    if not x.size or (x == x[0]).all() or (y == y[0]).all():
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
