"""Figures of attention over the iterations: measures as curves, heads as grids, patterns as small multiples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.dynamics.patterns import TITLES
from probes.figures import chosen, style
from probes.figures.attention_patterns import pattern, patterns
from probes.figures.bands import add_median
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.attention import Attention


def draw(result: Attention, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    views: dict[str, Any] = {
        "measures": measures,
        "heads": heads,
        "patterns": patterns,
        "pattern": pattern,
    }
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def measures(result: Attention, *, theme: style.Theme, position: int | None = None) -> go.Figure:
    """Each measure against iteration: median and 10–90% band over blocks and heads, random weights beside.

    `position` adds one token of the first sequence, its mean over blocks and heads.
    """
    if position is not None:
        chosen.check(result, position)
    by_token = result.per_token()
    fig = style.new_figure(
        result.title,
        style.subtitle(result, None),
        theme=theme,
        rows=2,
        cols=3,
        panels=[f"<b>{title}</b>" for title in TITLES.values()],
        horizontal_spacing=0.085,
        vertical_spacing=0.2,
    )
    runs: dict[Any, Attention | None] = {"control": result.control, "trained": result}
    for i, name in enumerate(TITLES):
        cell: dict[str, Any] = {"row": i // 3 + 1, "col": i % 3 + 1}
        for role, run in runs.items():
            if run is not None:
                _curve(fig, run, name, role, theme, legend=i == 0, **cell)
        if position is not None and name in by_token:
            values = by_token[name][:, 0, position]
            chosen.line(fig, result, position, values, theme, legend=i == 0, **cell)
        style.iteration_axis(fig, len(result.entropy), max_ticks=6, **cell)
        fig.update_yaxes(range=[-0.04, 1.04], tickfont_size=11, nticks=6, **cell)
    text = (
        f"Line: median over {result.sink[0].size} heads, means over tokens; band: 10–90% of heads."
        f" Local: the last {result.window} keys. Sink heads: mean mass on the first token at least"
        f" {result.sink_from:g}. Overlap: Σⱼ min(Aₜⱼ, A′ₜⱼ). Concentration: 1 − H(c)/log n, c the mass"
        " that the n keys receive. Tokens that see one key are left out."
    )
    style.caption(fig, text, below=50)
    fig.update_layout(legend_traceorder="reversed")
    return give_room(fig, 430, legend_lines=1, panel_titles=True)


def _curve(
    fig: go.Figure,
    run: Attention,
    name: str,
    role: Any,
    theme: style.Theme,
    *,
    legend: bool,
    row: int,
    col: int,
) -> None:
    look = style.role(role, theme)
    label = style.ROLES[role]
    low, median, high = run.quantiles(name)
    k = np.arange(len(median))
    size = 5 if role == "trained" else 8
    add_median(
        fig, k, (low, median, high), look, label,
        size=size, group=role, legend=legend, band=name != "sink_rate", row=row, col=col,
    )  # fmt: skip


def heads(result: Attention, *, theme: style.Theme, measure: str = "entropy") -> go.Figure:
    """One measure over head × iteration, a panel per block, trained above random weights on one scale."""
    result.measure(measure)
    runs = {style.ROLES["trained"]: result}
    if result.control is not None:
        runs[style.ROLES["control"]] = result.control
    blocks = [site.removesuffix(".attn.hook_pattern") for site in result.sites]
    fig = style.new_figure(
        f"Attention: {TITLES[measure]}",
        style.subtitle(result, None),
        theme=theme,
        rows=len(runs),
        cols=len(blocks),
        panels=[f"{block}, {name}" for name in runs for block in blocks],
        shared_yaxes=True,
        horizontal_spacing=0.1 / len(blocks),
        vertical_spacing=0.16,
    )
    for row, run in enumerate(runs.values(), 1):
        for col, block in enumerate(blocks, 1):
            values = run.measure(measure)[:, col - 1]
            fig.add_heatmap(
                z=values,
                zmin=0,
                zmax=1,
                colorscale=style.SEQUENTIAL,
                showscale=row == col == 1,
                colorbar={"title": {"text": TITLES[measure], "side": "right"}},
                hovertemplate=f"{block}, head %{{x}}<br>iteration %{{y}}<br>%{{z:.3f}}<extra></extra>",
                row=row,
                col=col,
            )
            title = "iteration k" if col == 1 else None
            style.iteration_axis(fig, len(values), "y", max_ticks=9, title=title, row=row, col=col)
            head = "head" if row == len(runs) else None
            n = values.shape[1]
            fig.update_xaxes(
                title_text=head, dtick=max(1, n // 8), showgrid=False, row=row, col=col
            )
            fig.update_yaxes(showgrid=False, row=row, col=col)
    text = "Means over the tokens of all sequences. Blank cells: undefined."
    style.caption(fig, text, below=50)
    return give_room(fig, 210 * len(runs) + 20, panel_titles=True)
