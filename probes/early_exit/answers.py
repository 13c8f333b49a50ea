"""Which tokens of a window count: where a model does a task, those whose next one is an answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from abbie_lens.errors import InputError
from abbie_lens.tasks.base import Task
from probes.task_depth import labels_of

Counted = Callable[[np.ndarray], np.ndarray]
"""Token ids of a window [pos] -> [pos] bool."""


def counted(which: str, task: Task | None) -> Counted | None:
    """The choice called `which` (`StudyConfig.counted`); None where all count. Errors: InputError for answers of no task."""
    if which == "all":
        return None
    if task is None:
        raise InputError(
            "counted='answers': this model has no task of its own; expected 'all', or a model trained on a task."
        )
    return lambda ids: answers(task, ids)


def answers(task: Task, ids: np.ndarray) -> np.ndarray:
    """[pos] tokens whose next one is an answer; a row begins with the token that the window left out."""
    row = np.concatenate([np.zeros(1, ids.dtype), ids])[None]
    return labels_of(task, row, np.ones_like(row, bool))[0][0, 1:] > 0
