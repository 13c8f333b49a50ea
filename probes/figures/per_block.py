"""Figures of the Body's blocks one by one: distances against iteration, and cosines between their limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.per_block import PerBlock

TITLES = {
    "raw": "raw step",
    "relative": "relative step",
    "direction": "direction step",
    "norm": "norm",
    "limit_direction": "direction to its own limit",
}


def draw(result: PerBlock, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    views = {"curves": curves, "limits": limits}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def curves(
    result: PerBlock,
    *,
    theme: style.Theme,
    metrics: Sequence[str] = ("direction", "limit_direction"),
) -> go.Figure:
    """One column a metric: median over tokens, a line per block; fresh weights below on the same scale."""
    from probes.dynamics.per_block import METRICS

    runs = {style.ROLES["trained"]: result}
    if result.control is not None:
        runs[style.ROLES["control"]] = result.control
    heads = [
        f"<b>{TITLES[m]}</b>, {name}<br>{METRICS[m]}"
        for name in runs
        for m in metrics
        if m in TITLES
    ]
    fig = style.new_figure(
        result.title,
        style.subtitle(result, None),
        theme=theme,
        rows=len(runs),
        cols=len(metrics),
        panels=heads,
        shared_yaxes="columns",  # type: ignore[arg-type]
        horizontal_spacing=0.1,
        vertical_spacing=0.24,
    )
    for row, run in enumerate(runs.values(), 1):
        for col, name in enumerate(metrics, 1):
            _lines(fig, run, run.metric(name), theme, row, col, first=row == col == 1)
            style.iteration_axis(fig, result.n_iters + 1, max_ticks=9, row=row, col=col)
            fig.update_yaxes(type="log", exponentformat="power", nticks=6, row=row, col=col)
    text = "Median over tokens of bₖ, the stream after a block in iteration k; u(x) = x/‖x‖."
    if result.limit_iters:
        text += f" b*: after {result.limit_iters} iterations in {result.limit_dtype}."
    if result.limit_reason:
        text += f" Some tokens have no limit: {result.limit_reason.rstrip('.')}."
    style.caption(fig, text + " A step of exactly 0 lies below the logarithmic axis.", below=50)
    return give_room(fig, 260 * len(runs), legend_lines=1, panel_titles=True)


def _lines(
    fig: go.Figure,
    run: PerBlock,
    values: np.ndarray,
    theme: style.Theme,
    row: int,
    col: int,
    *,
    first: bool,
) -> None:
    for b, site in enumerate(run.sites):
        look, name = style.series(b, theme), site.rpartition(".")[0]
        median = _median(values[:, b][:, run.valid])
        fig.add_scatter(
            x=np.arange(len(median)),
            y=np.where(median > 0, median, np.nan),
            name=name,
            legendgroup=name,
            showlegend=first,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": 5},
            hovertemplate=f"<b>{name}</b><br>k = %{{x}}<br>%{{y:.3g}}<extra></extra>",
            row=row,
            col=col,
        )


def limits(result: PerBlock, *, theme: style.Theme) -> go.Figure:
    """Median cosine between the limits of each two blocks, trained beside random weights."""
    runs = {style.ROLES["trained"]: result}
    if result.control is not None:
        runs[style.ROLES["control"]] = result.control
    fig = style.new_figure(
        "Limits of the blocks",
        f"{style.subtitle(result, None)}<br>{_told(result)}",
        theme=theme,
        rows=1,
        cols=len(runs),
        panels=list(runs) if len(runs) > 1 else None,
        horizontal_spacing=0.16,
    )
    names = [site.rpartition(".")[0] for site in result.sites]
    for col, run in enumerate(runs.values(), 1):
        n = len(names)
        cosine = _median(run.limit_cosine[:, :, run.valid].reshape(n * n, -1)).reshape(n, n)
        fig.add_heatmap(
            z=cosine,
            x=names,
            y=names,
            zmin=-1,
            zmax=1,
            zmid=0,
            colorscale=style.diverging(theme),
            texttemplate="%{z:.2f}" if n <= 8 else None,
            showscale=col == 1,
            colorbar={"title": {"text": "cosine", "side": "right"}},
            hovertemplate="%{x}, %{y}<br>cosine %{z:.4f}<extra></extra>",
            row=1,
            col=col,
        )
        fig.update_yaxes(autorange="reversed", row=1, col=col)
    text = (
        "Median over tokens of cos(b*ˡ, b*ᵐ), the limits of blocks l and m. All 1: the blocks rest"
    )
    text += " at one point, a degenerate way to converge. Where the norm grows without end (AbbIE-D) that is"
    text += " so for any weights: what a block adds is ever less of the stream."
    return give_room(style.caption(fig, text, below=50), 300, panel_titles=True)


def _told(result: PerBlock) -> str:
    share = result.share_same
    if np.isnan(share):
        return "no limits to compare"
    return f"all blocks rest at one point (cosine ≥ {result.same:g}): {100 * share:.0f}% of tokens"


def _median(values: np.ndarray) -> np.ndarray:
    """[row] median over defined columns; NaN where there is none."""
    out = np.full(len(values), np.nan)
    for i, row in enumerate(values):
        if np.isfinite(row).any():
            out[i] = np.median(row[np.isfinite(row)])
    return out
