"""Trajectories as paths on pairs of components, as per-token orbits, and as a waterfall of grids."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.grid import token_grid
from probes.figures.path_traces import (
    caption_text,
    component_name,
    draw_bold,
    draw_paths,
    reach_of,
)
from probes.figures.phase_portrait import phase

if TYPE_CHECKING:
    from probes.trajectory import Trajectories

MAX_ORBITS = 12
_ORBIT_COLS = 4


def draw(result: Trajectories, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view or no component to show."""
    views: dict[str, Any] = {
        "paths": paths, "orbits": orbits, "waterfall": waterfall, "phase": phase
    }  # fmt: skip
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    batch = options.get("batch", 0)
    chosen.sequence(result, batch)
    if result.n_components == 0:
        fig = style.new_figure(result.title, style.subtitle(result, batch), theme=theme)
        fig.update_layout(xaxis_visible=False, yaxis_visible=False)
        return style.caption(fig, "All states are one point: there is no direction to show.")
    return views[view](result, theme=theme, **options)


def paths(
    result: Trajectories,
    *,
    theme: style.Theme,
    batch: int = 0,
    position: int | None = None,
    n_pairs: int = 3,
) -> go.Figure:
    """Every token's path on the first `n_pairs` of PC 1–2, 3–4, …; `position` draws one token bold."""
    pairs = [(c, c + 1) for c in range(0, result.n_components - 1, 2)][:n_pairs] or [(0, 0)]
    fig = style.new_figure(
        "Trajectories of the state",
        style.subtitle(result, batch),
        height=430,
        theme=theme,
        rows=1,
        cols=len(pairs),
        horizontal_spacing=0.17,
    )
    positions = np.flatnonzero(result.valid[batch]).tolist()
    scores, tokens = result.scores[:, batch], result.tokens[batch]
    if position is not None and position not in positions:
        raise InputError(f"position={position}: tokens stand at {positions[0]} to {positions[-1]}.")
    for i, (a, b) in enumerate(pairs):
        draw_paths(fig, scores, tokens, positions, (a, b), theme, row=1, col=i + 1, bar=i == 0)
        if position is not None:
            draw_bold(fig, scores[:, position], (a, b), theme, row=1, col=i + 1)
        # Slanted tick labels would run into the caption of a narrow figure.
        fig.update_xaxes(
            title_text=component_name(result, a), nticks=4, tickangle=0, row=1, col=i + 1
        )
        anchor = "x" if i == 0 else f"x{i + 1}"
        square = {"scaleanchor": anchor, "scaleratio": 1, "nticks": 6}
        fig.update_yaxes(title_text=component_name(result, b), **square, row=1, col=i + 1)
    fig.update_layout(showlegend=False, margin_t=88)
    return style.caption(fig, caption_text(result, "One line per token"), below=50)


def orbits(
    result: Trajectories,
    *,
    theme: style.Theme,
    batch: int = 0,
    pair: tuple[int, int] = (1, 2),
    positions: Sequence[int] | None = None,
) -> go.Figure:
    """Each token's path around its own mean on one pair of components, all panels on one scale.

    positions: which tokens (at most 12; the first 12 if None).
    """
    a, b = (c - 1 for c in pair)
    if not all(0 <= c < result.n_components for c in (a, b)):
        raise InputError(f"pair={pair}: the result has components 1 to {result.n_components}.")
    there = np.flatnonzero(result.valid[batch]).tolist()
    chosen = there[:MAX_ORBITS] if positions is None else list(positions)[:MAX_ORBITS]
    if not set(chosen) <= set(there):
        raise InputError(f"positions={positions}: the tokens stand at {there[0]} to {there[-1]}.")
    cols = min(_ORBIT_COLS, len(chosen))
    rows = -(-len(chosen) // cols)
    fig = style.new_figure(
        f"Orbits on PC {pair[0]}–{pair[1]}",
        style.subtitle(result, batch),
        height=160 + 170 * rows,
        theme=theme,
        rows=rows,
        cols=cols,
        panels=[labels.token_label(result.tokens[batch][p]) for p in chosen],
        shared_xaxes="all",
        shared_yaxes="all",
        horizontal_spacing=0.02,
        vertical_spacing=0.28 / rows,
    )
    fig.update_annotations(font_family=style.MONO, font_size=12)
    centred, tokens = result.centred[:, batch], result.tokens[batch]
    for i, p in enumerate(chosen):
        row, col = i // cols + 1, i % cols + 1
        draw_paths(fig, centred, tokens, [p], (a, b), theme, row=row, col=col, bar=i == 0)
    reach = reach_of(centred[:, chosen][..., [a, b]])
    # Three ticks well inside the panel: those at its ends would run into the neighbour's.
    tick = float(f"{0.7 * reach:.0e}")
    square = {"range": [-reach, reach], "tickvals": [-tick, 0, tick], "zeroline": True}
    fig.update_xaxes(**square)
    fig.update_yaxes(**square)
    fig.update_layout(showlegend=False, margin_t=104)
    shown = f"{len(chosen)} of {len(there)} tokens, each around its own mean"
    return style.caption(fig, caption_text(result, shown), below=34)


def waterfall(
    result: Trajectories,
    *,
    theme: style.Theme,
    batch: int = 0,
    components: Sequence[int] = (1, 2, 3),
) -> go.Figure:
    """Scores on the chosen components over token × iteration, on one diverging scale around 0."""
    chosen = [c for c in components if 1 <= c <= result.n_components]
    if not chosen:
        raise InputError(
            f"components={tuple(components)}: the result has 1 to {result.n_components}."
        )
    keep = result.valid[batch]
    tokens = [t for t, k in zip(result.tokens[batch], keep, strict=True) if k]
    grids = [result.scores[:, batch, keep, c - 1] for c in chosen]
    reach = reach_of(np.stack(grids))
    rows = len(chosen)
    fig = style.new_figure(
        "Waterfall of the components",
        style.subtitle(result, batch),
        height=170 + rows * max(120, min(200, 12 * len(grids[0]))),
        theme=theme,
        rows=rows,
        cols=1,
        panels=[component_name(result, c - 1) for c in chosen],
        shared_xaxes=True,
        vertical_spacing=0.09,
    )
    below = 0
    for i, values in enumerate(grids):
        below = token_grid(
            fig,
            values,
            tokens,
            name=f"PC {chosen[i]}",
            middle=0.0,
            limits=(-reach, reach),
            apart=True,
            row=i + 1,
            col=1,
            theme=theme,
            showscale=i == 0,
            colorbar={"title": {"text": "score", "side": "right"}, "len": 1.0, "y": 0.5},
        )
        style.iteration_axis(fig, len(values), "y", row=i + 1, col=1, max_ticks=5)
        if i + 1 < rows:
            fig.update_xaxes(showticklabels=False, title_text="", row=i + 1, col=1)
    fig.update_layout(margin_t=100)
    return style.caption(fig, caption_text(result, "Row 0 is h₀", marker=False), below=below)
