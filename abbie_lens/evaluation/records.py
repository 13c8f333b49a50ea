"""What one depth scored: one number with its interval per task and metric, as plain data."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Score:
    """One metric of one task."""

    task: str
    metric: str
    filter: str
    """What was done to the answers before they were scored; "none" for most tasks."""
    value: float
    low: float
    high: float
    """Bounds of the interval; NaN where there is none."""
    interval: str
    """How the interval was made: "Wilson", "bootstrap" or "none"."""
    n_documents: int
    chance: float
    """What guessing scores; NaN where it is not known."""
    higher_is_better: bool
    part_of: str
    """The group of tasks whose own score this one enters; "" for none."""

    @property
    def key(self) -> tuple[str, str, str]:
        """Task, metric and filter: which curve the score is a point of."""
        return self.task, self.metric, self.filter


@dataclass(frozen=True)
class DepthScores:
    """All scores after r iterations."""

    n_iters: int
    scores: tuple[Score, ...]
    """Empty where the depth is undefined."""
    undefined: str = ""
    """Why the model has no scores at this depth; "" where it has."""
    n_truncated: int = 0
    """Requests that lost the beginning of their prompt because the model's context is shorter."""
    n_requests: int = 0
    """All that the model was asked, windows of long texts counted one by one."""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, None for NaN."""
        plain = dataclasses.asdict(self)
        plain["scores"] = [{k: _to_json(v) for k, v in s.items()} for s in plain["scores"]]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> DepthScores:
        """Inverse of `to_dict`."""
        scores = tuple(Score(**_from_json(score)) for score in plain["scores"])
        return cls(**{**plain, "scores": scores})


def _to_json(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(score: dict[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in score.items()}
