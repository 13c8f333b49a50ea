"""Figures of a study of halting by class of token: how deep each goes, and after which k its tokens exit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.study_result import HaltingStudy


def depths(result: HaltingStudy, mark: tuple[str, int], theme: style.Theme) -> go.Figure:
    """Mean exit step of each class, with intervals, the deepest on top."""
    (i, at), names = _at(result, mark), result.classes
    depth, nll, same = (result.by_class[name][i, at] for name in ("depth", "nll", "agreement"))
    shown = _shown(result, i, at)
    fig = style.new_figure(
        f"Depth by class · {_title(result, i, at)}", subtitle(result), theme=theme
    )
    value, low, high = depth[shown].T
    fig.add_scatter(
        x=value, y=[_name(names[c]) for c in shown], mode="markers", showlegend=False,
        marker={"color": style.role("trained", theme)["color"], "size": 9},
        error_x={
            "type": "data", "symmetric": False, "array": high - value, "arrayminus": value - low,
            "thickness": 1.5, "width": 3,
        },
        customdata=[
            f"{_name(names[c])}: {depth[c, 0]:.2f} [{depth[c, 1]:.2f}, {depth[c, 2]:.2f}] iterations<br>"
            f"{result.class_sizes[c]:,.0f} tokens, NLL at exit {nll[c, 0]:.3f} [{nll[c, 1]:.3f}, {nll[c, 2]:.3f}] nats<br>"
            f"same top token as full depth: {same[c, 0]:.1%} [{same[c, 1]:.1%}, {same[c, 2]:.1%}]"
            for c in shown
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    mean = result.metrics["depth"][i, at, 0]
    fig.add_vline(x=mean, line={"color": style.palette(theme).ink, "dash": "dash", "width": 1.5})
    fig.update_xaxes(title={"text": "mean exit step k"}, range=[0, result.n_iters + 0.2])
    fig.update_yaxes(type="category", automargin=True)
    style.caption(
        fig,
        f"Mean exit step, 95% bootstrap over documents; dashed: of all tokens, {mean:.2f}.",
        width=62,
    )
    return give_room(fig, 90 + 26 * len(shown))


def exits(result: HaltingStudy, mark: tuple[str, int], theme: style.Theme) -> go.Figure:
    """Share of each class that exits after k, stacked over k."""
    i, at = _at(result, mark)
    shown = _shown(result, i, at)
    counts = result.exits_by_class[i, at][shown]
    share = counts / counts.sum(1, keepdims=True)
    fig = style.new_figure(
        f"Exits by class · {_title(result, i, at)}", subtitle(result), theme=theme
    )
    rows = [_name(result.classes[c]) for c in shown]
    for k, color in enumerate(style.iteration_colors(result.n_iters + 1, theme)):
        if counts[:, k].any():
            fig.add_bar(
                x=share[:, k], y=rows, orientation="h", name=f"k = {k}", marker={"color": color},
                customdata=counts[:, k],
                hovertemplate=f"%{{y}}: %{{x:.1%}} exit after k = {k}, %{{customdata:,.0f}} tokens<extra></extra>",
            )  # fmt: skip
    fig.update_layout(barmode="stack", bargap=0.25, showlegend=True, legend_traceorder="normal")
    fig.update_xaxes(title={"text": "share of the class"}, range=[0, 1], tickformat=".0%")
    fig.update_yaxes(type="category", automargin=True)
    style.caption(fig, "Tokens of each class by the iteration after which they exit.")
    return give_room(fig, 120 + 26 * len(shown), legend_lines=1 + result.n_iters // 9)


def subtitle(result: HaltingStudy) -> str:
    """Model, depth and text."""
    return (
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {result.n_tokens:,} tokens of"
        f" {result.n_documents:,} documents"
    )


def _at(result: HaltingStudy, mark: tuple[str, int]) -> tuple[int, int]:
    return result.index(mark[0]), mark[1]


def _shown(result: HaltingStudy, i: int, at: int) -> np.ndarray:
    """[class] numbers of those that occur, the shallowest first."""
    held = np.flatnonzero(result.class_sizes > 0)
    return held[np.argsort(result.by_class["depth"][i, at, held, 0], kind="stable")]


def _title(result: HaltingStudy, i: int, at: int) -> str:
    return f"{labels.escape(result.rules[i]['title'])} τ = {result.thresholds[i, at]:.3g}"


def _name(text: str) -> str:
    return labels.escape(text)
