"""Axes, titles and captions of every figure; colours and template are re-exported from their files."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import Any, Literal

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from probes.figures import labels
from probes.figures.colors import (
    DASHES,
    MARKERS,
    PALETTES,
    ROLES,
    SEQUENTIAL,
    Palette,
    Theme,
    diverging,
    iteration_colors,
    palette,
    rgba,
    role,
    series,
)
from probes.figures.template import MONO, SANS

__all__ = [
    "DASHES",
    "MARKERS",
    "MONO",
    "PALETTES",
    "ROLES",
    "SANS",
    "SEQUENTIAL",
    "Palette",
    "Theme",
    "caption",
    "diverging",
    "iteration_axis",
    "iteration_colors",
    "new_figure",
    "palette",
    "rgba",
    "role",
    "series",
    "set_theme",
    "subtitle",
    "token_axis",
]

_LINE_PX = 16
_MAX_TICKS = 64


def new_figure(
    title: str,
    subtitle: str = "",
    height: int = 420,
    *,
    theme: Theme = "light",
    rows: int = 1,
    cols: int = 1,
    panels: Sequence[str] | None = None,
    **grid: Any,
) -> go.Figure:
    """Empty figure in our style; `panels` titles small multiples, `grid` goes to make_subplots.

    `title` and `subtitle` are trusted pseudo-HTML: pass user text through `labels.escape`.
    """
    if rows * cols > 1 or panels or grid:
        fig = make_subplots(rows=rows, cols=cols, subplot_titles=panels, **grid)
        fig.update_annotations(font_size=13, font_color=palette(theme).ink)
    else:
        fig = go.Figure()
    fig.update_layout(
        template=palette(theme).template,
        height=height,
        title={"text": title, "subtitle": {"text": subtitle}},
    )
    return fig


def subtitle(result: Any, batch: int | None = 0) -> str:
    """ "model · r = 16 · “prompt…”", escaped, for any result."""
    n = len(result.tokens)
    many = batch is None and n > 1
    prompt = f"{n} sequences" if many else labels.prompt_label(result.tokens[batch or 0], 40)
    return f"{labels.escape(result.model.name)} · r = {result.n_iters} · {prompt}"


def caption(fig: go.Figure, text: str, *, below: int = 48, width: int = 76) -> go.Figure:
    """Write `text` (the formula) under the axes, wrapped; `below` is what the x axis takes, in px."""
    # Names of models and families have hyphens.
    wrap = textwrap.TextWrapper(width, break_on_hyphens=False).wrap
    lines = [line for part in text.split("\n") for line in wrap(part) or [""]]
    fig.add_annotation(
        text="<br>".join(labels.escape(line) for line in lines),
        xref="paper",
        yref="paper",
        x=0,
        y=0,
        yshift=-below,
        xanchor="left",
        yanchor="top",
        align="left",
        showarrow=False,
        name="caption",
        font_size=12,
    )
    fig.update_layout(margin_b=below + _LINE_PX * len(lines) + 14)
    return fig


def token_axis(
    fig: go.Figure,
    tokens: Sequence[str],
    axis: Literal["x", "y"] = "x",
    *,
    row: int | None = None,
    col: int | None = None,
    title: str | None = None,
) -> int:
    """Tick the positions 0…n−1 with token labels; beyond 64, every m-th position is labelled.

    Returns the pixels that labels and title take, for `caption(below=…)`.
    """
    n = len(tokens)
    every = -(-n // _MAX_TICKS)
    ticks = list(range(0, n, every))
    short = [labels.visible(tokens[i], 14) for i in ticks]
    muted = "#8a92a0"
    texts = [
        f'<span style="color:{muted}">{labels.escape(s)}</span>'
        if labels.is_special(tokens[i])
        else labels.escape(s)
        for i, s in zip(ticks, short, strict=True)
    ]
    longest = max((len(s) for s in short), default=1)
    settings: dict[str, Any] = {
        "tickmode": "array",
        "tickvals": ticks,
        "ticktext": texts,
        "tickfont": {"family": MONO, "size": 11 if len(ticks) <= 40 else 9},
        "range": [-0.5, n - 0.5],
        "showgrid": False,
        "zeroline": False,
        "title": {"text": title or ("token" if every == 1 else f"token (one in {every} labelled)")},
    }
    # Slanted only when neighbours would touch in a window of 800 px, where a grid of a page has some 430.
    pairs = itertools.pairwise(short)
    widest = max((3.3 * (len(left) + len(right)) + 4 for left, right in pairs), default=0)
    upright = axis == "y" or widest * len(ticks) < 430
    if axis == "x":
        settings["tickangle"] = 0 if upright else -90
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    update(**settings, row=row, col=col)
    return 52 if upright else 40 + 7 * longest


def iteration_axis(
    fig: go.Figure,
    n: int,
    axis: Literal["x", "y"] = "x",
    *,
    first: int = 0,
    row: int | None = None,
    col: int | None = None,
    title: str | None = "iteration k",
    max_ticks: int = 17,
) -> None:
    """Tick the iterations first…first+n−1 with whole numbers; upward on y, rightward on x."""
    step = next((s for s in (1, 2, 4, 8, 16, 32, 64) if n / s <= max_ticks), 128)
    settings: dict[str, Any] = {
        "tickmode": "linear",
        "tick0": first,
        "dtick": step,
        "tickangle": 0,
        "range": [first - 0.5, first + n - 0.5],
        "zeroline": False,
    }
    if title is not None:
        settings["title"] = {"text": title}
    update = fig.update_xaxes if axis == "x" else fig.update_yaxes
    update(**settings, row=row, col=col)


def set_theme(fig: go.Figure, theme: Theme) -> go.Figure:
    """Swap the template of a finished figure (traces keep their colours: prefer `theme=` early)."""
    return fig.update_layout(template=palette(theme).template)
