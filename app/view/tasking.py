"""Running a task from a page: which model fits which task, one job a session, finished runs kept for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import probes
from abbie_lens import tasks
from abbie_lens.bridged import Loop
from abbie_lens.tasks.base import Task
from app.trained import own_task
from app.view import notices, picker, runs, work
from app.view.source import LiveSource
from probes import TaskDepth

TRAIN = "abbie-lens train --task k-hop --loop abbie-d"
SLOT = "task_job"
WORDS = work.Words(
    waiting="Nothing measured yet",
    how="Press “Measure”. It takes from seconds to minutes; the other pages can be used meanwhile.",
    doing="Measuring",
    steps="answers",
    stopped="The run was stopped before it was done.",
    refused="This cannot be measured",
    changed="Shown is the last run; the choices above have changed since.",
)


@dataclass(frozen=True)
class Request:
    """What one run depends on."""

    model: str
    task: str
    """Settings as JSON."""
    difficulty: tuple[int, int]
    n_iters: int
    n_answers: int
    loop: Loop | None = None


def task_models(names: Sequence[str]) -> list[str]:
    """What those among `names` that were trained on a task are called."""
    called = picker.labels(list(names))
    return [called[name] for name in names if own_task(name) is not None]


def offered(name: str, own: Task | None) -> Task:
    """The task called `name`: with the model's own settings if it is the model's own, else the usual ones."""
    return own if own is not None and own.name == name else tasks.make(name)


def request(
    source: LiveSource, task: Task, difficulty: tuple[int, int], n_iters: int, n: int
) -> Request:
    """What to run, as something that can be looked up: the source's model; its prompt and r play no part."""
    settings = json.dumps(tasks.encode(task), sort_keys=True)
    return Request(source.model, settings, difficulty, n_iters, n, source.loop)


def _key(asked: Request) -> tuple:
    """A checkpoint written anew under the same name is another model."""
    return (asked, runs.checkpoint(asked.model, asked.loop))


def start(asked: Request) -> None:
    """Begin the run, after stopping what this session ran before; nothing is run twice."""
    work.cancel(SLOT)
    with notices.calm():
        model = runs.model(asked.model, asked.loop)

        def measure(progress: Any) -> TaskDepth:
            return probes.task_depth(
                model, tasks.decode(json.loads(asked.task)), asked.n_iters, asked.difficulty,
                n_answers=asked.n_answers, progress=progress,
            )  # fmt: skip

        work.start(SLOT, asked, measure, _key(asked))


def outcome(asked: Request) -> TaskDepth | None:
    """The result of `asked`, or of the last run; draws progress, or why there is none."""
    return work.outcome(SLOT, asked, WORDS, _key(asked))
