"""Accuracy over needed steps × iterations, against r, and the answers of one row after every k."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.colors import sample_colorscale

from abbie_lens.errors import InputError
from probes.figures import style
from probes.figures.bands import add_band
from probes.figures.room import give_room
from probes.figures.task_answers import answers, counted, subtitle

if TYPE_CHECKING:
    from probes.task_depth import TaskDepth


def draw(result: TaskDepth, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown one."""
    views = {"grid": grid, "curves": curves, "answers": answers}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def grid(result: TaskDepth, *, theme: style.Theme) -> go.Figure:
    """Accuracy as cells, needed steps across, iterations upward; random weights beside on the same scale."""
    sides = [(style.ROLES["trained"], result.accuracy, result.low, result.high)]
    if np.isfinite(result.control).any():
        sides.append(
            (style.ROLES["control"], result.control, result.control_low, result.control_high)
        )
    fig = style.new_figure(
        "Accuracy by needed steps and iterations",
        subtitle(result),
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
            f"<b>{name}</b><br>{counted(d)} needed, r = {r}<br>"
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
    fig = style.new_figure("Accuracy against iterations", subtitle(result), theme=theme)
    low, high = style.palette(theme).iterations
    points = np.linspace(low, high, max(len(result.difficulty), 2))
    colors = sample_colorscale("Cividis", list(points), colortype="tuple")
    hardest = result.trained_difficulty[1]
    for i, steps in enumerate(result.difficulty):
        color = "#" + "".join(f"{round(255 * float(part)):02x}" for part in colors[i])
        name = counted(steps)
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
            x=result.depths, y=result.control.mean(1), name=style.ROLES["control"],
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


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]
