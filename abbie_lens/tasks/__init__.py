"""Tasks whose right depth is known: one file each; `make` by name, `decode` and `encode` for config files."""

from __future__ import annotations

import dataclasses
from typing import Any

from abbie_lens.errors import ConfigError, nearest
from abbie_lens.tasks.addition import Addition
from abbie_lens.tasks.base import Task
from abbie_lens.tasks.batch import TaskBatch
from abbie_lens.tasks.batches import TaskBatches
from abbie_lens.tasks.dyck import Dyck
from abbie_lens.tasks.khop import KHop
from abbie_lens.tasks.modular_sum import ModularSum
from abbie_lens.tasks.permutations import Permutations
from abbie_lens.tasks.tracking import Tracking

TASKS: dict[str, type[Task]] = {
    cls.name: cls for cls in (KHop, ModularSum, Addition, Dyck, Permutations, Tracking)
}

__all__ = [
    "TASKS",
    "Addition",
    "Dyck",
    "KHop",
    "ModularSum",
    "Permutations",
    "Task",
    "TaskBatch",
    "TaskBatches",
    "Tracking",
    "decode",
    "encode",
    "make",
]


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
