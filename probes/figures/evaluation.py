"""Figure of benchmark scores: each metric against the number of iterations, with intervals and chance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError, nearest
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.evaluation import EvalScores

_PANEL_PX, _TASKS_A_LINE = 290, 4
_CHANCE_WIDTH = 1.5


def against_depth(
    result: EvalScores,
    *,
    metrics: Sequence[str] | None,
    tasks: Sequence[str] | None,
    theme: Any,
) -> go.Figure:
    """One panel a metric; a task has one look in all of them."""
    shown = _chosen(result, metrics, tasks)
    panels = list(dict.fromkeys(result.metrics[i] for i in shown))
    names = list(dict.fromkeys(_name(result, i) for i in shown))
    fig = style.new_figure(
        result.title,
        f"{labels.escape(result.model.name)} · {labels.escape(result.model.family)} · trained at"
        f" r = {result.model.trained_n_iters}",
        theme=theme,
        rows=len(panels),
        cols=1,
        panels=[_panel_title(result, shown, metric) for metric in panels],
        vertical_spacing=0.25 / len(panels),
    )
    told: set[str] = set()
    for row, metric in enumerate(panels, start=1):
        here = [i for i in shown if result.metrics[i] == metric]
        for i in here:
            name = _name(result, i)
            look = style.series(names.index(name), theme)
            _curve(fig, result, i, row, name, look, first=name not in told)
            told.add(name)
        _chance(fig, result, here, row, theme, first="chance" not in told)
        told |= {"chance"} if np.isfinite(result.chance[here]).any() else set()
        _depth_axis(fig, result, row, last=row == len(panels))
        fig.update_yaxes(title={"text": labels.escape(metric)}, row=row, col=1)
    style.caption(fig, _caption(result, shown))
    return give_room(
        fig,
        _PANEL_PX * len(panels),
        legend_lines=-(-(len(names) + 1) // _TASKS_A_LINE),
        panel_titles=True,
    )


def _chosen(
    result: EvalScores, metrics: Sequence[str] | None, tasks: Sequence[str] | None
) -> list[int]:
    for name, wanted, known in (
        ("metrics", metrics, result.metrics),
        ("tasks", tasks, result.tasks),
    ):
        for one in wanted or ():
            if one not in known:
                raise InputError(
                    f"{name}={one!r}: expected one of {', '.join(dict.fromkeys(known))}."
                    f"{nearest(one, known)}"
                )
    return [
        i
        for i, (task, metric) in enumerate(zip(result.tasks, result.metrics, strict=True))
        if (metrics is None or metric in metrics)
        and (task in tasks if tasks is not None else not result.part_of[i])
    ]


def _name(result: EvalScores, i: int) -> str:
    filter_name = result.filters[i]
    suffix = "" if filter_name == "none" else f" ({filter_name})"
    return labels.escape(f"{result.tasks[i]}{suffix}")


def _panel_title(result: EvalScores, shown: list[int], metric: str) -> str:
    up = [bool(result.higher_is_better[i]) for i in shown if result.metrics[i] == metric]
    better = "higher is better" if all(up) else "lower is better" if not any(up) else ""
    return labels.escape(metric) + (f" ({better})" if better else "")


def _curve(
    fig: go.Figure,
    result: EvalScores,
    i: int,
    row: int,
    name: str,
    look: dict[str, Any],
    *,
    first: bool,
) -> None:
    r, low, high = result.depths, result.low[i], result.high[i]
    add_band(fig, r, low, high, look["color"], legendgroup=name, row=row, col=1)
    fig.add_scatter(
        x=r,
        y=result.value[i],
        name=name,
        legendgroup=name,
        showlegend=first,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2.5},
        marker={"symbol": look["symbol"], "size": 7},
        customdata=np.stack([low, high], 1),
        hovertemplate=f"{name}, r = %{{x}}<br>%{{y:.3f}}  [%{{customdata[0]:.3f}},"
        " %{customdata[1]:.3f}]<extra></extra>",
        row=row,
        col=1,
    )


def _chance(
    fig: go.Figure, result: EvalScores, here: list[int], row: int, theme: Any, *, first: bool
) -> None:
    """A line for each level; named where tasks of one panel differ in it."""
    levels: dict[float, list[str]] = {}
    for i in here:
        if np.isfinite(result.chance[i]):
            levels.setdefault(round(float(result.chance[i]), 6), []).append(_name(result, i))
    for n, (level, whose) in enumerate(levels.items()):
        of = "" if len(levels) == 1 else f" of {', '.join(whose)}"
        fig.add_scatter(
            x=_range(result),
            y=[level] * 2,
            name="chance",
            legendgroup="chance",
            legendrank=2000,
            showlegend=first and n == 0,
            mode="lines",
            line={"color": style.palette(theme).muted, "dash": "dot", "width": _CHANCE_WIDTH},
            hovertemplate=f"chance{of}: %{{y:.3f}}<extra></extra>",
            row=row,
            col=1,
        )


def _range(result: EvalScores) -> list[float]:
    return [float(result.depths[0]) - 0.5, float(result.depths[-1]) + 0.5]


def _depth_axis(fig: go.Figure, result: EvalScores, row: int, *, last: bool) -> None:
    first, n = int(result.depths[0]), int(result.depths[-1] - result.depths[0]) + 1
    title = "iterations r" if last else None
    style.iteration_axis(fig, n, first=first, row=row, col=1, title=title)


def _caption(result: EvalScores, shown: list[int]) -> str:
    text = f"{result.formula} ({result.confidence:.0%}: {interval_methods(result, shown)})."
    documents = {result.tasks[i]: int(result.n_documents[i]) for i in shown}
    text += " Documents: " + ", ".join(f"{task} {n}" for task, n in documents.items()) + "."
    if np.isfinite(result.chance[shown]).any():
        text += " Dotted: chance, 1 / number of choices."
    if result.n_truncated.any():
        text += (
            f" At most {int(result.n_truncated.max())} of {int(result.n_requests.max())} prompts"
        )
        text += " lost their beginning to the model's context."
    refused = [f"r = {r}" for r, why in zip(result.depths, result.undefined, strict=True) if why]
    return text + (f" Not defined at {', '.join(refused)}." if refused else "")


def interval_methods(result: EvalScores, shown: Sequence[int]) -> str:
    """How the intervals were made, in words."""
    words = {
        "Wilson": "Wilson over documents",
        "bootstrap": "percentile bootstrap over documents",
        "none": "none",
    }
    methods: dict[str, set[str]] = {}
    for i in shown:
        methods.setdefault(result.metrics[i], set()).add(result.intervals[i])
    by_method: dict[str, list[str]] = {}
    for i in shown:
        metric = result.metrics[i]
        name = metric if len(methods[metric]) == 1 else f"{metric} of {result.tasks[i]}"
        names = by_method.setdefault(words[result.intervals[i]], [])
        names += [name] if name not in names else []
    if len(by_method) == 1:
        return next(iter(by_method))
    return "; ".join(f"{', '.join(names)}: {how}" for how, names in by_method.items())
