"""Example rows of a task on a page: the prompt with its answers marked, and what the model answers."""

from __future__ import annotations

import streamlit as st

from app.view import figures, plain
from probes import TaskDepth


def show(result: TaskDepth) -> None:
    """One row of the replay: its tokens, and the model's answer to each question after every k."""
    row = st.slider("Row", 1, len(result.tokens), 1, key="task_row", bind="query-params") - 1
    st.code(marked(result, row), language=None, wrap_lines=True)
    st.caption("⟦ ⟧ marks an answer: the model must predict it from what stands before.")
    figures.show(result, "task-answers", height=520, view="answers", batch=row)


def marked(result: TaskDepth, row: int) -> str:
    """The tokens of a row, answers between ⟦ and ⟧, padding left out."""
    valid, due = result.replay.valid[row], result.answers[row] >= 0
    words = []
    for position, token in enumerate(result.tokens[row]):
        if valid[position]:
            word = plain.token(token)
            words.append(f"⟦{word}⟧" if position and due[position - 1] else word)
    return " ".join(words)
