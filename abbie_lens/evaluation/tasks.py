"""Finding and loading tasks by name: lm-eval's own and those of a folder."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lm_eval.tasks import TaskManager

from abbie_lens.errors import AbbieLensError, InputError, TaskError, nearest
from abbie_lens.evaluation.seeds import seeded
from abbie_lens.evaluation.trust import check_tasks, no_fetched_metrics


@dataclass(frozen=True)
class Tasks:
    """Loaded tasks, in lm-eval's terms."""

    loaded: Any
    """lm-eval's TaskDict: "tasks" and "groups" by name, "group_map" of direct children."""

    @property
    def leaves(self) -> dict[str, Any]:
        """The tasks that have documents, by name."""
        return self.loaded["tasks"]

    @property
    def groups(self) -> dict[str, Any]:
        """The groups that have a score of their own, by name."""
        return {n: g for n, g in self.loaded["groups"].items() if g.has_aggregation}

    def prepare(self, seed: int) -> None:
        """What must be the same at every depth: few-shot examples are drawn from `seed` anew."""
        for task in self.leaves.values():
            if task.get_config("num_fewshot") is None:
                task.set_config(key="num_fewshot", value=0)
            task.set_fewshot_seed(seed=seed)

    def digests(self, limit: int | None, seed: int) -> dict[str, str]:
        """SHA-256, in hex, of each task's settings and of the documents that are asked."""
        with seeded(seed):
            return {name: _digest(task, limit) for name, task in sorted(self.leaves.items())}


def load(
    names: Sequence[str],
    include_path: str | os.PathLike[str] | None = None,
    *,
    allow_code: bool = False,
    seed: int = 0,
) -> Tasks:
    """The tasks, groups and tags called `names`, their data read; those of `include_path` go first.

    `seed` is for tasks that shuffle while they are read.
    Errors: InputError for no name or an unknown one (with the nearest), a folder that is not there, a task
    that runs code without `allow_code`; TaskError for one that cannot be read.
    """
    if not names:
        raise InputError("tasks: none named; expected at least one.")
    folder = None if include_path is None else Path(include_path).expanduser()
    if folder is not None and not folder.is_dir():
        raise InputError(f"include_path={str(include_path)!r}: no such folder.")
    manager = _manager(names, folder)
    for name in names:
        if name not in manager.task_index:
            raise InputError(
                f"task {name!r}: lm-eval has none of this name"
                f"{'' if folder is None else f', nor has {str(folder)!r}'}."
                f"{nearest(name, manager.all_tasks)}"
            )
    with no_fetched_metrics(allow_code), seeded(seed):
        try:
            tasks = Tasks(manager.load(list(dict.fromkeys(names))))
        except AbbieLensError:
            raise
        except Exception as error:  # a task file may fail in any way
            raise TaskError(
                f"tasks {', '.join(names)}: cannot be loaded ({type(error).__name__}: {error})."
            ) from error
    check_tasks(tasks.leaves.values(), allow_code)
    for task in tasks.leaves.values():
        if getattr(task, "MULTIMODAL", False):
            raise InputError(f"task {task.task_name!r}: it shows pictures or sounds; we read text.")
    return tasks


def _manager(names: Sequence[str], folder: Path | None) -> TaskManager:
    """The folder's tasks alone if they are all that is asked: reading lm-eval's thousands takes long."""
    if folder is not None:
        local = TaskManager(include_path=str(folder), include_defaults=False)
        if all(_complete(name, local.task_index) for name in names):
            return local
    return TaskManager(include_path=None if folder is None else str(folder))


def _complete(name: Any, index: dict[str, Any]) -> bool:
    """Whether a task, or a group with all its members, is in the index."""
    if name not in index:
        return False
    members = (index[name].cfg or {}).get("task")
    if not isinstance(members, list):
        return True
    return all(_complete(m if isinstance(m, str) else m.get("task"), index) for m in members)


def _digest(task: Any, limit: int | None) -> str:
    settings = {k: v for k, v in task.dump_config().items() if k != "metadata"}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for document in itertools.islice(task.eval_docs, limit):
        digest.update(json.dumps(document, sort_keys=True, default=str).encode())
    return digest.hexdigest()
