"""Figures of what is lost without a part, and of patterns kept from another iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import style
from probes.figures.grid import span
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.interventions.ablation import Ablation
    from probes.interventions.frozen_patterns import FrozenPatterns

UNITS = ("KL (nats)", "change of NLL (nats)")


def draw(result: Ablation, *, theme: style.Theme, measure: int) -> go.Figure:
    """Parts across, iterations upward; mean-ablation above resampling, on one scale."""
    by_head = result.mean.shape[-1] > 1
    short = [name.replace("hook_", "").replace("attn.", "") for name in result.sites]
    names = [f"{s} h{h}" if by_head else s for s in short for h in range(result.mean.shape[-1])]
    grids = {
        "replaced by its mean": result.mean[measure],
        f"replaced by that of another token, mean of {result.resample.shape[-1]} draws": result.resample[measure].mean(-1),
    }  # fmt: skip
    flat = [g.transpose(1, 0, 2).reshape(g.shape[1], -1) for g in grids.values()]
    fig = style.new_figure(
        result.title, style.subtitle(result, None), theme=theme, rows=2, cols=1,
        panels=[f"<b>{title}</b>" for title in grids], vertical_spacing=0.16, shared_xaxes=True,
    )  # fmt: skip
    for row, values in enumerate(flat, 1):
        cell: dict[str, Any] = {"row": row, "col": 1}
        _heat(
            fig,
            values,
            names,
            flat,
            UNITS[measure],
            theme,
            signed=measure == 1,
            first=row == 1,
            **cell,
        )
        style.iteration_axis(fig, len(values), "y", max_ticks=9, **cell)
        fig.update_yaxes(showgrid=False, **cell)
    fig.update_xaxes(
        tickmode="array",
        tickvals=list(range(len(names))),
        ticktext=names,
        tickangle=-90,
        row=2,
        col=1,
    )
    longest = max(len(name) for name in names)
    text = f"{result.formula}. Reference: {result.n_reference} tokens. Blank: no such row."
    style.caption(fig, text, below=24 + 7 * longest)
    return give_room(fig, 2 * max(120, min(260, 24 * len(flat[0]))), panel_titles=True)


def draw_frozen(
    result: FrozenPatterns, *, theme: style.Theme, measure: int, block: int
) -> go.Figure:
    """One panel a head: i upward, j across, the uniform pattern as the lowest row."""
    effect, uniform = result.effect[measure, block], result.uniform[measure, block]
    n_heads, n = effect.shape[:2]
    cols = min(4, n_heads)
    rows = -(-n_heads // cols)
    values = np.concatenate([uniform[:, None], effect], axis=1)
    fig = style.new_figure(
        result.title, f"{style.subtitle(result)}<br>{result.sites[block]}", theme=theme, rows=rows, cols=cols,
        panels=[f"<b>head {h}</b>" for h in range(n_heads)], horizontal_spacing=0.07, vertical_spacing=0.14,
    )  # fmt: skip
    for h in range(n_heads):
        cell: dict[str, Any] = {"row": h // cols + 1, "col": h % cols + 1}
        _heat(fig, values[h], list(range(n)), [values], UNITS[measure], theme, signed=measure == 1, first=h == 0,
              rows=["uniform", *map(str, range(n))], **cell)  # fmt: skip
        last = h + cols >= n_heads
        style.iteration_axis(fig, n, title="at iteration j" if last else None, max_ticks=9, **cell)
        step = -(-n // 8)
        ticks = [0, *range(1, n + 1, step)]
        fig.update_yaxes(
            tickmode="array", tickvals=ticks, ticktext=["uniform", *(str(t - 1) for t in ticks[1:])],
            showgrid=False, showticklabels=h % cols == 0,
            title_text="pattern of i" if h % cols == 0 else None, **cell,
        )  # fmt: skip
    style.caption(fig, result.formula, below=50)
    fig.update_layout(margin_t=110)
    return give_room(fig, 190 * rows, legend_lines=1, panel_titles=True)


def _heat(
    fig: go.Figure,
    values: np.ndarray,
    names: list[Any],
    scale: list[np.ndarray],
    unit: str,
    theme: style.Theme,
    *,
    signed: bool,
    first: bool,
    rows: list[str] | None = None,
    **cell: int,
) -> None:
    low, high = span(scale, 0.0 if signed else None)
    colors: dict[str, Any] = {"colorscale": style.diverging(theme), "zmid": 0.0} if signed else {"colorscale": style.SEQUENTIAL}  # fmt: skip
    lines = rows or [str(k) for k in range(len(values))]
    fig.add_heatmap(
        z=values, zmin=low, zmax=high, showscale=first, xgap=1, ygap=1,
        customdata=[[f"{line}, {name}" for name in names] for line in lines],
        colorbar={"title": {"text": unit, "side": "right"}, "len": 1.0, "y": 0.5},
        hovertemplate="%{customdata}<br>%{z:.4g}<extra></extra>", **colors, **cell,
    )  # fmt: skip
