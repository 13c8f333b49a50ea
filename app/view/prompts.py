"""What a page's prompt is before anything is typed: prose, a fact, or for a model of a task a row of that task."""

from __future__ import annotations

from functools import lru_cache

import streamlit as st

from abbie_lens.files import installed
from abbie_lens.tasks.base import Task
from app.trained import own_task

PROSE = (
    "She opened the letter slowly, and when she had read it to the end she looked up at him and said",
    "He shut the door, and they walked together down the road to the village without a word",
)

LANGUAGE = (
    "The capital of France is Paris. The capital of Germany is",
    "The opposite of hot is cold. The opposite of up is",
)
"""For a model of the real language, which the installed ones are."""


def usual(model: str, number: int = 0) -> str:
    """What a model's prompt is before anything is typed; `number` 0 or 1, for two prompts side by side."""
    task = own_task(model)
    if task is not None:
        return _row(task, number)
    return (LANGUAGE if model in installed.names() else PROSE)[number]


def follow(key: str, prompt: str) -> None:
    """Before the text box `key` is drawn: an untouched usual prompt of the last model becomes this one's."""
    before = st.session_state.get(f"usual_{key}")
    if before not in (None, prompt) and st.session_state.get(key) == before:
        st.session_state[key] = prompt
    st.session_state[f"usual_{key}"] = prompt


@lru_cache(maxsize=64)
def _row(task: Task, number: int) -> str:
    """A row of the test split, without what opens and pads it."""
    return task.text(task.sample(0, number + 1, split="test").tokens[number])
