"""Benchmark scores against the number of iterations: does accuracy grow with r?

Tasks and answers are lm-eval's, the model is behind its interface (`abbie_lens.evaluation`), and every
depth is a run of its own: the same prompts, the same documents, another r.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import DepthError, ExistsError, InputError
from abbie_lens.evaluation import DepthScores, Evaluator, Score
from abbie_lens.evaluation.store import ScoreFile
from probes.result import Result

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from abbie_lens.info import ModelInfo

OnDepth = Callable[[int, int, int], object]
"""callback(r, done, total): requests of one kind answered at depth r."""


@dataclass(frozen=True, eq=False, kw_only=True)
class EvalScores(Result):
    """Scores by curve (task, metric, filter) and depth, NaN where the model has none at a depth."""

    title = "Benchmarks against depth"
    formula = "score after r iterations; band: interval over documents"

    depths: np.ndarray
    """[depth] numbers of iterations, ascending."""
    tasks: tuple[str, ...]
    """[curve]"""
    metrics: tuple[str, ...]
    """[curve] lm-eval's name of the metric."""
    filters: tuple[str, ...]
    """[curve] what was done to the answers before scoring; "none" for most."""
    part_of: tuple[str, ...]
    """[curve] the group whose own score the task enters; "" for none."""
    value: np.ndarray
    """[curve, depth]"""
    low: np.ndarray
    high: np.ndarray
    """[curve, depth] bounds of the interval; NaN where there is none."""
    intervals: tuple[str, ...]
    """[curve] "Wilson", "bootstrap" or "none"."""
    confidence: float
    n_documents: np.ndarray
    """[curve]"""
    chance: np.ndarray
    """[curve] what guessing scores; NaN where it is not known."""
    higher_is_better: np.ndarray
    """[curve] bool"""
    undefined: tuple[str, ...]
    """[depth] why the model has no scores; "" where it has."""
    n_truncated: np.ndarray
    """[depth] requests whose prompt lost its beginning; ..."""
    n_requests: np.ndarray
    """[depth] ... of so many."""

    def to_frame(self) -> pd.DataFrame:
        """One row per curve and depth."""
        import pandas as pd

        n = len(self.depths)
        per_curve = {
            "task": self.tasks,
            "metric": self.metrics,
            "filter": self.filters,
            "part_of": self.part_of,
            "interval": self.intervals,
            "n_documents": self.n_documents,
            "chance": self.chance,
            "higher_is_better": self.higher_is_better,
        }
        columns: dict[str, Any] = {
            name: np.repeat(np.asarray(values), n) for name, values in per_curve.items()
        }
        columns["n_iters"] = np.tile(self.depths, len(self.tasks))
        columns |= {name: getattr(self, name).reshape(-1) for name in ("value", "low", "high")}
        columns["undefined"] = np.tile(np.asarray(self.undefined, dtype=object), len(self.tasks))
        first = ["task", "metric", "filter", "n_iters", "value", "low", "high"]
        order = [*first, *(name for name in columns if name not in first)]
        return pd.DataFrame({name: columns[name] for name in order})

    def figure(
        self,
        *,
        theme: str = "light",
        metrics: Sequence[str] | None = None,
        tasks: Sequence[str] | None = None,
    ) -> go.Figure:
        """Score against r, one panel a metric, one line a task with its interval and chance level.

        `metrics` and `tasks` choose; without `tasks`, members of a group stay behind the group's own line.
        """
        from probes.figures import evaluation as figures

        return figures.against_depth(self, metrics=metrics, tasks=tasks, theme=theme)


def eval_scores(
    model: Any,
    tasks: Sequence[str],
    n_iters: Sequence[int] = (1, 2, 4, 8),
    *,
    include_path: str | os.PathLike[str] | None = None,
    limit: int | None = None,
    batch_size: int = 16,
    confidence: float = 0.95,
    n_draws: int = 1000,
    seed: int = 0,
    allow_code: bool = False,
    out: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: OnDepth | None = None,
) -> EvalScores:
    """Evaluate `model` on lm-eval's `tasks` after each of `n_iters` iterations (extra `[eval]`).

    `out` names a JSON file that has each depth as soon as it is finished; with `resume`, depths that it
    holds are not run again. The other arguments are `abbie_lens.evaluation.Evaluator`'s. Errors: InputError,
    TaskError, ExistsError for an `out` that is there without `resume`, DepthError if every depth is refused.
    """
    depths = check_depths(n_iters)
    check_out(out, resume)
    evaluator = Evaluator(
        model, tasks, include_path=include_path, limit=limit, batch_size=batch_size,
        confidence=confidence, n_draws=n_draws, seed=seed, allow_code=allow_code,
    )  # fmt: skip
    file = None
    known: dict[int, DepthScores] = {}
    if out is not None:
        file = ScoreFile(out, evaluator.identity(), model.info().to_dict())
        if resume:
            file.resume()
        known = file.depths
    for r in depths:
        if r in known:
            continue
        tell = None if progress is None else _at(progress, r)
        found = evaluator.scores(r, tell)
        known[r] = found
        if file is not None:
            file.add(found)
    return gather(model.info(), [known[r] for r in depths], confidence)


def check_depths(n_iters: Sequence[int]) -> list[int]:
    """Ascending, each once. Errors: InputError for none, or one that is no integer >= 0."""
    for r in n_iters:
        if isinstance(r, bool) or not isinstance(r, int | np.integer) or r < 0:
            raise InputError(f"n_iters={list(n_iters)!r}: expected integers >= 0.")
    if not len(n_iters):
        raise InputError("n_iters=[]: expected at least one depth.")
    return sorted({int(r) for r in n_iters})


def check_out(out: str | os.PathLike[str] | None, resume: bool) -> None:
    """Errors: ExistsError for a file that is there and is not to be continued, InputError for no file."""
    if out is None and resume:
        raise InputError("resume=True: name the file to continue in out.")
    if out is not None and not resume and os.path.exists(out):
        raise ExistsError(f"out={str(out)!r} exists; choose another file, or resume it")


def gather(model: ModelInfo, found: Sequence[DepthScores], confidence: float) -> EvalScores:
    """One result from scores by depth. Errors: DepthError if no depth has any."""
    curves: dict[tuple[str, str, str], Score] = {}
    for depth in found:
        curves |= {s.key: s for s in depth.scores if s.key not in curves}
    if not curves:
        reasons = "; ".join(f"r={d.n_iters}: {d.undefined or 'no scores'}" for d in found)
        raise DepthError(f"n_iters: no depth could be evaluated ({reasons})")
    numbers = np.full((3, len(curves), len(found)), np.nan)
    row = {key: i for i, key in enumerate(curves)}
    for column, depth in enumerate(found):
        for s in depth.scores:
            numbers[:, row[s.key], column] = s.value, s.low, s.high
    first = list(curves.values())
    return EvalScores(
        model=model,
        tokens=(),
        n_iters=max(d.n_iters for d in found),
        depths=np.array([d.n_iters for d in found]),
        tasks=tuple(s.task for s in first),
        metrics=tuple(s.metric for s in first),
        filters=tuple(s.filter for s in first),
        part_of=tuple(s.part_of for s in first),
        value=numbers[0],
        low=numbers[1],
        high=numbers[2],
        intervals=tuple(s.interval for s in first),
        confidence=confidence,
        n_documents=np.array([s.n_documents for s in first]),
        chance=np.array([s.chance for s in first]),
        higher_is_better=np.array([s.higher_is_better for s in first]),
        undefined=tuple(d.undefined for d in found),
        n_truncated=np.array([d.n_truncated for d in found]),
        n_requests=np.array([d.n_requests for d in found]),
    )


def _at(progress: OnDepth, r: int) -> Callable[[int, int], object]:
    return lambda done, total: progress(r, done, total)
