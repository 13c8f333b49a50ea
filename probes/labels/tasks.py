"""Labels of the tasks whose right depth is known: what must be answered here, and how many steps that needs."""

from __future__ import annotations

import numpy as np

from abbie_lens.errors import InputError
from abbie_lens.tasks.base import Difficulty, Task
from probes.labels.spans import SpanLabel

TASK_LABELS = {
    "answer": "the answer that comes next",
    "steps": "steps that the next answer needs",
}


def task_label(
    task: Task,
    name: str = "answer",
    *,
    n: int = 200,
    seed: int = 0,
    difficulty: Difficulty = None,
    split: str = "test",
) -> SpanLabel:
    """A label at the tokens before answers, where a model must know them; every row of the task is a document.

    name: "answer" (a class a word) or "steps" (classes "1", "2", …). n: rows drawn. Errors: InputError for an unknown
    name, or what `task.sample` refuses.
    """
    if name not in TASK_LABELS:
        raise InputError(f"label={name!r}: of a task, one of {', '.join(TASK_LABELS)}.")
    batch = task.sample(seed, n, difficulty, split=split)
    words = np.array(["", *task.words], dtype=object)
    documents, spans, said = [], [], []
    for tokens, counted, steps, real in zip(
        batch.tokens, batch.counted, batch.difficulty, batch.real, strict=True
    ):
        row = words[tokens[real]][1:].tolist()
        ends = np.cumsum([len(word) + 1 for word in row]) - 1
        before = np.stack([ends - [len(word) for word in row], ends], axis=1)[:-1]
        asked = counted[real][2:]
        documents.append(" ".join(row))
        spans.append(before[asked])
        answers = np.array(row[1:], dtype=object)[asked]
        said.append(answers if name == "answer" else steps[real][2:][asked].astype(str))
    found = {value for row in said for value in row.tolist()}
    classes = tuple(sorted(found, key=lambda c: (len(c), c)))
    number = {c: i for i, c in enumerate(classes)}
    return SpanLabel(
        name,
        f"{TASK_LABELS[name]} ({task.name})",
        classes,
        tuple(documents),
        tuple(spans),
        tuple(np.array([number[v] for v in row.tolist()], np.int64) for row in said),
    )
