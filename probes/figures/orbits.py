"""Figures of the kinds of paths: the text with each token in its kind's colour, and the numbers behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.orbits import Orbits

_ACROSS = 12
_SIGNS = ("●", "○", "↻", "→", "~", "✕", "?")
"""Of the kinds in their order: never colour alone."""


def draw(result: Orbits, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view or sequence."""
    views: dict[str, Any] = {"text": text, "measures": measures}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    batch = options.get("batch", 0)
    chosen.sequence(result, batch)
    return views[view](result, theme=theme, **options)


def text(result: Orbits, *, theme: style.Theme, batch: int = 0) -> go.Figure:
    """The sequence in lines of 12 tokens, each cell in the colour and with the sign of its kind."""
    from probes.dynamics.orbits import KINDS

    colors = style.palette(theme).categories
    fig = style.new_figure(
        result.title, f"{style.subtitle(result, batch)}<br>{_counted(result)}", theme=theme
    )
    there = np.flatnonzero(result.valid[batch])
    column, line = np.arange(len(there)) % _ACROSS, np.arange(len(there)) // _ACROSS
    kinds = result.kind[batch, there]
    for i, kind in enumerate(KINDS):
        own = np.flatnonzero(kinds == kind)
        if not len(own):
            continue
        tokens = [result.tokens[batch][p] for p in there[own]]
        fig.add_scatter(
            x=column[own],
            y=line[own],
            name=f"{_SIGNS[i]} {kind}",
            mode="markers+text",
            marker={
                "symbol": "square", "size": 40, "color": style.rgba(colors[i], 0.35),
                "line": {"color": colors[i], "width": 1.5},
            },
            text=[f"{_SIGNS[i]}<br>{labels.token_label(t, 7)}" for t in tokens],
            textfont={"family": style.MONO, "size": 10, "color": style.palette(theme).ink},
            customdata=[_hover(result, batch, p) for p in there[own]],
            hovertemplate="%{customdata}<extra></extra>",
        )  # fmt: skip
    n_lines = int(line.max(initial=0)) + 1
    fig.update_xaxes(visible=False, range=[-0.6, _ACROSS - 0.4])
    fig.update_yaxes(visible=False, range=[n_lines - 0.4, -0.6])
    fig.update_layout(showlegend=True, legend_itemsizing="trace")
    shown = "directions u(hₖ)" if result.unit else "states hₖ"
    caption = (
        f"Paths of {shown} over the last half of {result.n_iters} iterations. Slides: drifts with straightness ≥"
        f" {result.thresholds['straight']:g}; wanders: drifts, less straight. Settles: steps shrink faster than"
        f" k^−{result.thresholds['decay']:g}. Orbits: comes back within {result.thresholds['closure']:g} of its way."
    )
    style.caption(fig, caption, below=12)
    return give_room(fig, max(110, 52 * n_lines), legend_lines=2)


def measures(result: Orbits, *, theme: style.Theme, batch: int = 0) -> go.Figure:
    """Turn, straightness, closure and recurrence of every token, trained and random weights."""
    from probes.dynamics.orbits import MEASURES

    keep = np.flatnonzero(result.valid[batch])
    tokens = [result.tokens[batch][p] for p in keep]
    fig = style.new_figure(
        "Shape of the paths",
        f"{style.subtitle(result, batch)}<br>{_counted(result)}",
        theme=theme,
        rows=len(MEASURES),
        cols=1,
        panels=[f"<b>{name}</b>" for name in MEASURES],
        shared_xaxes=True,
        vertical_spacing=0.07,
    )
    below = 50
    sides: list[tuple[Any, Orbits | None]] = [("control", result.control), ("trained", result)]
    for row, name in enumerate(MEASURES, 1):
        for role, run in sides:
            if run is None:
                continue
            look = style.role(role, theme)
            label = style.ROLES[role]
            fig.add_scatter(
                x=np.arange(len(keep)),
                y=getattr(run, name)[batch, keep],
                name=label,
                legendgroup=role,
                showlegend=row == 1,
                mode="markers",
                marker={"color": look["color"], "symbol": look["symbol"], "size": 7},
                customdata=[_hover(run, batch, p) for p in keep],
                hovertemplate="%{customdata}<extra></extra>",
                row=row,
                col=1,
            )
        below = style.token_axis(fig, tokens, "x", row=row, col=1)
        if row < len(MEASURES):
            fig.update_xaxes(showticklabels=False, title_text="", row=row, col=1)
        low = -1.15 if name == "turn" else -0.1
        fig.update_yaxes(range=[low, 1.15], nticks=4, row=row, col=1)
    fig.update_layout(legend_traceorder="reversed")
    style.caption(fig, result.formula, below=below)
    return give_room(fig, 130 * len(MEASURES), legend_lines=1, panel_titles=True)


def _hover(result: Orbits, batch: int, p: Any) -> str:
    numbers = {
        n: getattr(result, n)[batch, p] for n in ("turn", "straightness", "recurrence", "period")
    }
    lines = [f"{n} {v:.3g}" if np.isfinite(v) else f"{n} undefined" for n, v in numbers.items()]
    head = f"<b>{labels.token_label(result.tokens[batch][p])}</b>  (position {p})"
    return "<br>".join([head, str(result.kind[batch, p]), *lines])


def _counted(result: Orbits) -> str:
    parts = []
    for name, run in (("trained", result), ("random", result.control)):
        if run is not None:
            counts = run.counts()
            total = sum(counts.values())
            parts.append(f"{name}: " + ", ".join(f"{k} {n}/{total}" for k, n in counts.items()))
    return "; ".join(parts)
