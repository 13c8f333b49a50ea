"""The answers of one row of a task after every k: which token, and whether it is right."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from abbie_lens import tasks
from probes.figures import chosen, labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.task_depth import TaskDepth

_QUESTION_TOKENS = 9
"""Tokens of a question that stand under its answer."""
MAX_ANSWERS = 14


def answers(result: TaskDepth, *, theme: style.Theme, batch: int = 0) -> go.Figure:
    """What the model answers to each question of one row after every k: right or wrong, with the token."""
    chosen.sequence(result, batch)
    tokens = result.tokens[batch]
    every = np.flatnonzero(result.answers[batch] >= 0)
    where = every[:MAX_ANSWERS]
    right = result.right[:, batch, where]
    names = _names(result)
    said = [
        [names.get(int(i), "?") for i in row] for row in result.replay.prediction[:, batch, where]
    ]
    fig = style.new_figure("The model's answers after k iterations", subtitle(result), theme=theme)
    colors = style.palette(theme)
    good, bad = colors.categories[0], colors.categories[1]
    # Signs beside the colours: they must be told apart without them.
    text = [
        [
            f"{'✓' if ok else '✗'} {labels.token_label(word, 6)}"
            for ok, word in zip(*line, strict=True)
        ]
        for line in zip(right, said, strict=True)
    ]
    hover = [
        [
            f"k = {k}: {text[k][j]}<br>right: {labels.token_label(tokens[p + 1])}"
            f"<br>needs {counted(int(result.needed[batch, p]))}"
            for j, p in enumerate(where)
        ]
        for k in range(len(right))
    ]
    fig.add_heatmap(
        z=right, x=np.arange(len(where)), y=np.arange(len(right)), zmin=0, zmax=1, xgap=2, ygap=2,
        colorscale=[[0, style.rgba(bad, 0.28)], [0.5, style.rgba(bad, 0.28)],
                    [0.5, style.rgba(good, 0.45)], [1, style.rgba(good, 0.45)]],
        showscale=False, text=text, texttemplate="%{text}",
        textfont={"family": style.MONO, "color": colors.ink}, customdata=hover,
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    ticks = [_tick(result, batch, every, i) for i in range(len(where))]
    fig.update_xaxes(
        tickvals=np.arange(len(where)), ticktext=ticks, tickangle=0, showgrid=False, zeroline=False,
        tickfont={"family": style.MONO, "size": 11}, range=[-0.5, len(where) - 0.5],
    )  # fmt: skip
    style.iteration_axis(fig, len(right), "y", max_ticks=9)
    fig.update_yaxes(showgrid=False)
    left_out = len(every) - len(where)
    rest = f" {left_out} further answers are not shown." if left_out else ""
    style.caption(
        fig,
        "Under each column: the end of the question, = the right answer, the steps it needs. "
        "✓ the most probable token is right, ✗ it is not; k = 0 is the Head alone." + rest,
        below=74,
    )
    return give_room(fig, 26 * max(5, len(right)))


def _tick(result: TaskDepth, batch: int, every: np.ndarray, i: int) -> str:
    """The end of the question, the answer, and the steps that it needs."""
    tokens, p = result.tokens[batch], int(every[i])
    begin = max(int(every[i - 1]) + 2 if i else 1, p + 1 - _QUESTION_TOKENS)
    words = list(tokens[begin : p + 1])
    if ";" in words[:-1]:  # what stands before is another question, or the facts
        words = words[len(words) - words[::-1].index(";") :] or words
    asked = "".join(words)[-8:]
    steps = result.needed[batch, p]
    return f"{labels.escape(asked)}<br>={labels.token_label(tokens[p + 1], 6)}<br>({steps})"


def _names(result: TaskDepth) -> dict[int, str]:
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in result.task.items()}
    return {i: word for word, i in tasks.decode(plain).vocabulary.items()}


def subtitle(result: TaskDepth) -> str:
    """Model, its trained r, and the task."""
    name, task = labels.escape(result.model.name), labels.escape(result.task["task"])
    return f"{name} · trained with r = {result.model.trained_n_iters} · {task}"


def counted(steps: int) -> str:
    """The number with its noun."""
    return f"{steps} step" if steps == 1 else f"{steps} steps"
