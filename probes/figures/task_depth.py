"""Accuracy over needed steps × iterations, against r, and the answers of one row after every k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.task_depth import TaskDepth

_QUESTION_TOKENS = 9
"""Tokens of a question that stand under its answer."""
MAX_ANSWERS = 14


def draw(result: TaskDepth, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown one."""
    views = {"grid": grid, "curves": curves, "answers": answers}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def subtitle(result: Any, task: str) -> str:
    """Model, its trained r, and the task."""
    model = result.model
    return f"{labels.escape(model.name)} · trained with r = {model.trained_n_iters} · {labels.escape(task)}"


def grid(result: TaskDepth, *, theme: style.Theme) -> go.Figure:
    """Accuracy as cells, needed steps across, iterations upward; random weights beside on the same scale."""
    sides = [("trained weights", result.accuracy, result.low, result.high)]
    if np.isfinite(result.control).any():
        sides.append(("random weights", result.control, result.control_low, result.control_high))
    fig = style.new_figure(
        "Accuracy by needed steps and iterations",
        subtitle(result, result.task["task"]),
        theme=theme,
        rows=1,
        cols=len(sides),
        panels=[name for name, *_ in sides] if len(sides) > 1 else None,
        shared_yaxes=True,
        horizontal_spacing=0.06,
        column_widths=[0.6, 0.4][: len(sides)] if len(sides) > 1 else None,
    )
    for col, (name, *values) in enumerate(sides, start=1):
        _cells(fig, result, name, values, col, theme, bar=col == 1)
        _marks(fig, result, col, theme)
        style.iteration_axis(
            fig, len(result.depths), "y", first=int(result.depths[0]), row=1, col=col,
            title="iterations r" if col == 1 else None, max_ticks=9,
        )  # fmt: skip
        fig.update_xaxes(
            title={"text": "needed steps"}, dtick=1, tickangle=0, zeroline=False,
            showgrid=False, row=1, col=col,
        )  # fmt: skip
        fig.update_yaxes(showgrid=False, row=1, col=col)
    style.caption(fig, _grid_caption(result))
    return give_room(
        fig, 26 * max(8, len(result.depths)), legend_lines=1, panel_titles=len(sides) > 1
    )


def _cells(
    fig: go.Figure,
    result: TaskDepth,
    name: str,
    values: list[np.ndarray],
    col: int,
    theme: style.Theme,
    *,
    bar: bool,
) -> None:
    share, low, high = values
    hover = [
        [
            f"<b>{name}</b><br>{_counted(d)} needed, r = {r}<br>"
            + (
                f"accuracy {share[i, j]:.3f}  [{low[i, j]:.3f}, {high[i, j]:.3f}]"
                if np.isfinite(share[i, j])
                else "refused by the model"
            )
            + f"<br>{result.n[j]} answers; chance {result.chance:.3f}"
            for j, d in enumerate(result.difficulty)
        ]
        for i, r in enumerate(result.depths)
    ]
    ticks = [0.0, 0.5, 1.0]
    # The tick of chance takes the place of one that it would run into.
    ticks = [t for t in ticks if abs(t - result.chance) > 0.07]
    fig.add_heatmap(
        z=share, x=result.difficulty, y=result.depths, zmin=0, zmax=1, xgap=1, ygap=1,
        text=np.vectorize(lambda v: f"{v:.2f}" if np.isfinite(v) else "")(share),
        texttemplate="%{text}" if len(result.difficulty) <= 12 else None,
        customdata=hover, hovertemplate="%{customdata}<extra></extra>", showscale=bar,
        colorbar={
            "title": {"text": "accuracy", "side": "right"},
            "tickvals": [*ticks, result.chance],
            "ticktext": [*(f"{t:g}" for t in ticks), f"chance {result.chance:.2g}"],
            "x": 1.01,
        },
        row=1, col=col,
    )  # fmt: skip


def _marks(fig: go.Figure, result: TaskDepth, col: int, theme: style.Theme) -> None:
    """What is harder, and what is deeper, than in training."""
    first, last = result.difficulty[0], result.difficulty[-1]
    bottom, top = result.depths[0], result.depths[-1]
    ink = style.palette(theme).control
    hardest = result.trained_difficulty[1]
    if first <= hardest < last:
        fig.add_scatter(
            x=[hardest + 0.5] * 2, y=[bottom - 0.5, top + 0.5], mode="lines",
            line={"color": ink, "width": 2.5}, name="→ harder than trained",
            legendgroup="hard", showlegend=col == 1, hoverinfo="skip", row=1, col=col,
        )  # fmt: skip
    trained = result.model.trained_n_iters
    if bottom == 0:
        # The Head alone, apart from the iterations.
        paper = style.palette(theme).paper
        cell: dict[str, Any] = {"row": 1, "col": col}
        fig.add_hline(y=0.5, line={"color": paper, "width": 5}, **cell)
    if bottom <= trained < top:
        fig.add_scatter(
            x=[first - 0.5, last + 0.5], y=[trained + 0.5] * 2, mode="lines",
            line={"color": ink, "width": 2.5, "dash": "dash"}, name="↑ deeper than trained",
            legendgroup="deep", showlegend=col == 1, hoverinfo="skip", row=1, col=col,
        )  # fmt: skip


def _grid_caption(result: TaskDepth) -> str:
    low, high = result.trained_difficulty
    n = int(result.n.min())
    text = f"{_sentence(result.formula)}; one step is {result.steps}. "
    text += (
        f"{n} answers or more a column, the same in all cells; trained on {low} to {high} steps. "
    )
    text += f"One iteration is one of the {result.model.counts}. "
    text += f"Chance {result.chance:.3f}; hover for {result.confidence:.0%} intervals."
    refused = result.depths[np.isnan(result.accuracy).all(1)]
    if refused.size:
        text += f" Blank: the model refuses r = {', '.join(map(str, refused))}."
    return text


def curves(result: TaskDepth, *, theme: style.Theme) -> go.Figure:
    """Accuracy against r, a line a difficulty, with intervals; random weights as one grey band."""
    fig = style.new_figure(
        "Accuracy against iterations", subtitle(result, result.task["task"]), theme=theme
    )
    low, high = style.palette(theme).iterations
    points = np.linspace(low, high, max(len(result.difficulty), 2))
    colors = sample_colorscale("Cividis", list(points), colortype="tuple")
    hardest = result.trained_difficulty[1]
    for i, steps in enumerate(result.difficulty):
        color = "#" + "".join(f"{round(255 * float(part)):02x}" for part in colors[i])
        name = _counted(steps)
        add_band(fig, result.depths, result.low[:, i], result.high[:, i], color, alpha=0.12)
        fig.add_scatter(
            x=result.depths, y=result.accuracy[:, i], name=name, mode="lines+markers",
            line={"color": color, "width": 2, "dash": "solid" if steps <= hardest else "dash"},
            marker={"symbol": style.MARKERS[i % len(style.MARKERS)], "size": 7},
            customdata=np.stack([result.low[:, i], result.high[:, i]], -1),
            hovertemplate=f"<b>{name}</b>, r = %{{x}}<br>%{{y:.3f}}  [%{{customdata[0]:.3f}},"
            " %{customdata[1]:.3f}]<extra></extra>",
        )  # fmt: skip
    grey = style.palette(theme).muted
    if np.isfinite(result.control).any():
        fig.add_scatter(
            x=result.depths, y=result.control.mean(1), name="random weights",
            mode="lines", line={"color": grey, "dash": "dashdot", "width": 1.5},
        )  # fmt: skip
    fig.add_scatter(
        x=[result.depths[0], result.depths[-1]], y=[result.chance] * 2, name="chance", mode="lines",
        line={"color": grey, "dash": "dot", "width": 1.5},
    )  # fmt: skip
    style.iteration_axis(
        fig, len(result.depths), "x", first=int(result.depths[0]), title="iterations r"
    )
    fig.update_yaxes(title={"text": "accuracy"}, range=[-0.03, 1.03], zeroline=False)
    text = f"Lines: steps that the answer needs, dashed beyond the {hardest} trained; band:"
    text += f" {result.confidence:.0%} interval; random weights: mean over steps."
    style.caption(fig, f"{text} {_sentence(result.formula)}.")
    return give_room(fig, 300, legend_lines=2)


def answers(result: TaskDepth, *, theme: style.Theme, batch: int = 0) -> go.Figure:
    """What the model answers to each question of one row after every k: right or wrong, with the token."""
    if not 0 <= batch < len(result.tokens):
        raise InputError(f"batch={batch}: expected 0 to {len(result.tokens) - 1}.")
    tokens = result.tokens[batch]
    every = np.flatnonzero(result.answers[batch] >= 0)
    where = every[:MAX_ANSWERS]
    right = result.right[:, batch, where]
    names = _names(result)
    said = [
        [names.get(int(i), "?") for i in row] for row in result.replay.prediction[:, batch, where]
    ]
    fig = style.new_figure(
        "The model's answers after k iterations", subtitle(result, result.task["task"]), theme=theme
    )
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
            f"<br>needs {_counted(result.needed[batch, p])}"
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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _counted(steps: int) -> str:
    return f"{steps} step" if steps == 1 else f"{steps} steps"


def _names(result: TaskDepth) -> dict[int, str]:
    from abbie_lens import tasks

    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in result.task.items()}
    return {i: word for word, i in tasks.decode(plain).vocabulary.items()}
