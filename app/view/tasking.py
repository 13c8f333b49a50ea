"""Running a task from a page: which model fits which task, one job a session, finished runs kept for all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import streamlit as st

import probes
from abbie_lens import tasks
from abbie_lens.bridged import Loop
from abbie_lens.errors import AbbieLensError
from abbie_lens.tasks.base import Task
from app.view import notices, picker, runs
from app.view.jobs import Job
from app.view.prompts import own_task
from app.view.source import LiveSource
from probes import TaskDepth

TRAIN = "abbie-lens train --task k-hop --loop abbie-d"


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


@st.cache_resource(max_entries=1)
def _finished() -> dict[tuple, TaskDepth]:
    """Finished runs, shared by all visitors; the oldest make room."""
    return {}


def _key(asked: Request) -> tuple:
    """A checkpoint written anew under the same name is another model."""
    return (asked, runs.checkpoint(asked.model, asked.loop))


def start(asked: Request) -> None:
    """Begin the run, after stopping what this session ran before; nothing is run twice."""
    cancel()
    with notices.calm():
        key, model = _key(asked), runs.model(asked.model, asked.loop)
        finished = _finished()

        def work(progress: Any) -> TaskDepth:
            if key not in finished:
                done = probes.task_depth(
                    model, tasks.decode(json.loads(asked.task)), asked.n_iters, asked.difficulty,
                    n_answers=asked.n_answers, progress=progress,
                )  # fmt: skip
                while len(finished) >= 16:
                    finished.pop(next(iter(finished)))
                finished[key] = done
            return finished[key]

        st.session_state["task_job"] = (asked, Job(work))


def cancel() -> None:
    """Stop this session's run, if one goes on."""
    if job := st.session_state.get("task_job"):
        job[1].cancel()


def outcome(asked: Request) -> TaskDepth | None:
    """The result of `asked`, or of the last run; draws progress, or why there is none."""
    done = _finished().get(_key(asked))
    if done is not None:
        return done
    before, job = st.session_state.get("task_job", (None, None))
    if job is None:
        notices.notice(
            "Nothing measured yet",
            "Press “Measure”. It takes from seconds to minutes; the other pages can be used meanwhile.",
        )
        return None
    if job.running:
        _watch()
        return None
    if job.cancelled:
        notices.notice("Cancelled", "The run was stopped before it was done.")
        return None
    if isinstance(job.error, AbbieLensError):
        notices.notice("This cannot be measured", str(job.error))
        return None
    if job.error is not None:
        raise job.error
    if before != asked:
        st.caption(
            ":material/history: Shown is the last run; the choices above have changed since."
        )
    return job.result


@st.fragment(run_every=0.5)
def _watch() -> None:
    _, job = st.session_state["task_job"]
    if not job.running:
        st.rerun()
    left, right = st.columns([5, 1], vertical_alignment="center")
    left.progress(job.fraction, f"Measuring: {job.done} of {job.total or '…'} answers")
    right.button("Cancel", key="task_cancel", on_click=cancel, icon=":material/stop:")
