"""Tasks whose right depth is known: one file each; `make` by name, `decode` and `encode` for config files."""

from __future__ import annotations

import dataclasses
from typing import Any

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.tasks.base import Task
from abbie_lens.tasks.batch import TaskBatch
from abbie_lens.tasks.batches import TaskBatches
from abbie_lens.tasks.khop import KHop

TASKS: dict[str, type[Task]] = {cls.name: cls for cls in (KHop,)}

__all__ = ["TASKS", "KHop", "Task", "TaskBatch", "TaskBatches", "decode", "encode", "make"]


def make(name: str, **settings: Any) -> Task:
    """The task called `name` with these settings. Errors: ConfigError for an unknown task or setting."""
    if name not in TASKS:
        raise ConfigError(f"task {name!r}: expected one of {sorted(TASKS)}.{nearest(name, TASKS)}")
    known = {f.name for f in dataclasses.fields(TASKS[name])}
    for key in settings.keys() - known:
        raise ConfigError(
            f"task {name}: unknown setting {key!r}; expected among {sorted(known)}.{nearest(key, known)}"
        )
    return TASKS[name](**settings)


def encode(task: Task) -> dict[str, Any]:
    """Plain JSON types of a task and its settings, tagged by `task`."""
    return task.to_dict()


def decode(plain: dict[str, Any]) -> Task:
    """Inverse of `encode`. Errors: ConfigError for an unknown task or setting."""
    settings = dict(plain)
    return make(str(settings.pop("task", None)), **settings)
