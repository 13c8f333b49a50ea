"""Exit steps against needed steps: how many answers stop where, their mean, and random weights beside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.task_exits import TaskExits

_LARGEST = 26
"""Diameter of the mark of all answers, in pixels; areas are shares."""


def draw(result: TaskExits, *, theme: style.Theme) -> go.Figure:
    """One panel for the model and one for random weights, on the same axes."""
    sides = [
        ("trained", style.ROLES["trained"], result.exit_step, result.means, result.correlation)
    ]
    if (result.control >= 0).all():
        sides.append(
            ("control", style.ROLES["control"], result.control, result.control_means,
             result.control_correlation)
        )  # fmt: skip
    fig = style.new_figure(
        f"Exit step against needed steps · {labels.escape(result.rule['title'])} {_threshold(result)}",
        f"{labels.escape(result.model.name)} · {len(result.needed)} answers in"
        f" {len(np.unique(result.row))} rows",
        theme=theme,
        rows=1,
        cols=len(sides),
        panels=[f"<b>{name}</b><br>{_spearman(rho)}" for _, name, _, _, rho in sides],
        shared_yaxes=True,
        horizontal_spacing=0.05,
    )
    for col, (role, _, steps, means, _) in enumerate(sides, start=1):
        _side(fig, result, role, steps, means, col, theme)
        low, high = int(result.difficulty[0]), int(result.difficulty[-1])
        fig.update_xaxes(
            title={"text": "needed steps"}, dtick=1, tickangle=0, zeroline=False,
            range=[low - 0.6, high + 0.6], row=1, col=col,
        )  # fmt: skip
        style.iteration_axis(
            fig, result.n_iters + 1, "y", row=1, col=col, max_ticks=9,
            title="exit step k" if col == 1 else None,
        )  # fmt: skip
    low, high = result.trained_difficulty
    style.caption(
        fig,
        f"{result.rule['formula']}, τ = {result.threshold:.3g} {result.rule['unit']}. {result.formula[:1].upper()}{result.formula[1:]}. "
        f"Area of a disc: share of the answers that need so many steps. Bars: 95% bootstrap over rows. ρ: "
        f"Spearman's correlation over answers. Trained on {low} to {high} steps; right of the dashed line is harder.",
    )
    return give_room(fig, 250, legend_lines=2, panel_titles=True)


def _side(
    fig: go.Figure,
    result: TaskExits,
    role: Any,
    steps: np.ndarray,
    means: np.ndarray,
    col: int,
    theme: style.Theme,
) -> None:
    cell: dict[str, Any] = {"row": 1, "col": col}
    look, colors = style.role(role, theme), style.palette(theme)
    pairs, counts = np.unique(np.stack([result.needed, steps]), axis=1, return_counts=True)
    n = {int(d): int((result.needed == d).sum()) for d in result.difficulty}
    share = np.array([c / n[int(d)] for d, c in zip(pairs[0], counts, strict=True)])
    fig.add_scatter(
        x=pairs[0], y=pairs[1], mode="markers", name="share of the answers", showlegend=col == 1,
        marker={
            "size": _LARGEST * np.sqrt(share), "sizemin": 3, "color": style.rgba(look["color"], 0.35),
            "line": {"width": 0}, "symbol": "circle",
        },
        customdata=[
            f"{d} steps needed, exit after {k}<br>{c} of {n[int(d)]} answers"
            for d, k, c in zip(*pairs, counts, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>", **cell,
    )  # fmt: skip
    mean, low, high = means.T
    fig.add_scatter(
        x=result.difficulty, y=mean, mode="lines+markers", name="mean", showlegend=col == 1,
        line={"color": colors.ink, "width": 2}, marker={"symbol": "diamond", "size": 8},
        error_y={
            "type": "data", "symmetric": False, "array": high - mean, "arrayminus": mean - low,
            "color": colors.ink, "thickness": 1.5, "width": 5,
        },
        customdata=np.stack([low, high], -1),
        hovertemplate="%{x} steps needed<br>mean exit %{y:.2f}  [%{customdata[0]:.2f},"
        " %{customdata[1]:.2f}]<extra></extra>", **cell,
    )  # fmt: skip
    hardest = result.trained_difficulty[1]
    if result.difficulty[0] <= hardest < result.difficulty[-1]:
        fig.add_scatter(
            x=[hardest + 0.5] * 2, y=[-0.5, result.n_iters + 0.5], mode="lines",
            line={"color": colors.muted, "dash": "dash", "width": 1.5},
            showlegend=False, hoverinfo="skip", **cell,
        )  # fmt: skip


def _spearman(rho: np.ndarray) -> str:
    if not np.isfinite(rho[0]):
        return "ρ undefined: all alike"
    bounds = f" [{rho[1]:+.2f}, {rho[2]:+.2f}]" if np.isfinite(rho[1]) else ""
    return f"ρ = {rho[0]:+.2f}{bounds}"


def _threshold(result: TaskExits) -> str:
    return f"{'≥' if result.rule['stops'] == 'at_least' else '<'} {result.threshold:.3g}"
