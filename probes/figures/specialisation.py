"""One figure of what iterations are for: span, probe accuracy and effect of skipping over the same axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.specialised_iterations import Specialisation


def draw(result: Specialisation, *, theme: style.Theme) -> go.Figure:
    """A row per measure; trained weights beside random ones in each."""
    panels = ["<b>attention span (tokens)</b>", "<b>effect of skipping it: KL (nats)</b>"]
    if result.probes is not None:
        panels.insert(1, f"<b>accuracy of a probe for {labels.escape(result.probes.label)}</b>")
    fig = style.new_figure(
        result.title,
        style.subtitle(result, None),
        theme=theme,
        rows=len(panels),
        cols=1,
        panels=panels,
        shared_xaxes=True,  # type: ignore[arg-type]
        vertical_spacing=0.1,
    )
    for role, weights in (("control", "random"), ("trained", "trained")):
        _line(fig, result.span_quantiles(weights), role, theme, True, row=1)
    _level(fig, result.even_span, "attention spread evenly", theme, row=1)
    if result.probes is not None:
        for role, condition in (("control", "untrained"), ("trained", "trained")):
            rows = getattr(result.probes, condition)[0, 1 : result.n_iters + 1]
            _line(fig, rows, role, theme, False, row=2)
        _level(fig, float(result.probes.embedding[0]), "from the embedding alone", theme, row=2)
    skipping, last = result.skipping, len(panels)
    if skipping.control is not None:
        _line(fig, skipping.control.means["skip_kl"][:, 0], "control", theme, False, row=last)
    _line(fig, skipping.means["skip_kl"][:, 0], "trained", theme, False, row=last)
    for row in range(1, last + 1):
        title = "iteration i" if row == last else ""
        style.iteration_axis(fig, result.n_iters, title=title, row=row, col=1)
    text = (
        "Span: Σₛ Aₜₛ (t − s), means over queries, line: median over heads, band: 10–90% of heads."
    )
    text += " Other bands: 95% interval over documents."
    text += " Probe: on the state that iteration i hands on." if result.probes is not None else ""
    style.caption(fig, text, below=50)
    return give_room(fig, 190 * last, legend_lines=2, panel_titles=True)


def _line(
    fig: go.Figure, values: np.ndarray, role: Any, theme: style.Theme, legend: bool, *, row: int
) -> None:
    look = style.role(role, theme)
    name = {"trained": "trained weights", "control": "random weights"}[role]
    i = np.arange(len(values))
    add_band(fig, i, values[:, 1], values[:, 2], look["color"], row=row, col=1)
    fig.add_scatter(
        x=i,
        y=values[:, 0],
        name=name,
        legendgroup=name,
        showlegend=legend,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 6},
        hovertemplate=f"<b>{name}</b><br>i = %{{x}}<br>%{{y:.4g}}<extra></extra>",
        row=row,
        col=1,
    )


def _level(fig: go.Figure, level: float, name: str, theme: style.Theme, *, row: int) -> None:
    if np.isfinite(level):
        fig.add_hline(
            y=level,
            line={"color": style.palette(theme).muted, "dash": "dot", "width": 1},
            annotation_text=name,
            annotation_position="top right",
            annotation_font_size=11,
            row=row,  # type: ignore[arg-type]
            col=1,  # type: ignore[arg-type]
        )
