"""The text itself, every token in the colour of its verdict, with that of random weights in a bar below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import chosen, labels, style
from probes.figures.room import give_room
from probes.verdicts import VERDICTS

if TYPE_CHECKING:
    from probes.fixed_point_result import FixedPoint

ACROSS = 72
"""Characters in a line: as many as a figure 500 pixels wide can set."""
_LONGEST = 16
_LINE_PX = 40
_SIGNS = ("●", "○", "↻", "→", "✕", "?")
"""Of the verdicts in their order: never colour alone."""
_COLORS = (0, 2, 3, 4, 1, 6)
"""Categories: settles blue, below resolution green, orbits pink, drifts orange, diverges vermillion, too short grey."""


def verdict_strip(
    result: FixedPoint,
    *,
    theme: style.Theme,
    batch: int = 0,
    position: int | None = None,
    across: int = ACROSS,
) -> go.Figure:
    """The sequence as running text, `across` characters a line; the token at `position` is framed.

    Every token is one bar, so that it can be clicked: its `customdata` begins with its position.
    """
    chosen.sequence(result, batch)
    if position is not None:
        chosen.check(result, position, batch)
    there = np.flatnonzero(result.valid[batch])
    texts = [labels.visible(result.tokens[batch][p], _LONGEST) for p in there]
    start, line = flow([len(text) for text in texts], across)
    colors = style.palette(theme).categories
    fig = style.new_figure("Verdict of every token", style.subtitle(result, batch), theme=theme)
    runs = [("trained", result)] + ([("random", result.control)] if result.control else [])
    here = {name: run.verdict[batch, there] for name, run in runs}
    for sign, color, verdict in zip(_SIGNS, (colors[c] for c in _COLORS), VERDICTS, strict=True):
        told = ", ".join(f"{name} {int((of == verdict).sum())}" for name, of in here.items())
        first = True
        for name, run in runs:
            own = np.flatnonzero(run.verdict[batch, there] == verdict)
            trained = name == "trained"
            if not len(own):
                continue
            fig.add_bar(
                orientation="h",
                base=start[own] + 0.1,
                x=[len(texts[i]) + 0.8 for i in own],
                y=line[own] + (0.0 if trained else 0.42),
                width=0.62 if trained else 0.1,
                name=f"{sign} {verdict}: {told}",
                legendgroup=verdict,
                showlegend=first,
                marker={"color": style.rgba(color, 0.3 if trained else 1.0), "line": {"width": 0}},
                text=[labels.escape(texts[i]) for i in own] if trained else None,
                textposition="inside" if trained else "none",
                insidetextanchor="middle",
                textangle=0,
                constraintext="none",
                textfont={"family": style.MONO, "size": 11, "color": style.palette(theme).ink},
                customdata=[[int(there[i]), _hover(result, batch, int(there[i]))] for i in own],
                hovertemplate="%{customdata[1]}<extra></extra>",
                # A click picks out the token: the others stay as they are.
                unselected={"marker": {"opacity": 1}},
            )
            first = False
    if position is not None:
        i = int(np.flatnonzero(there == position)[0])
        frame = {"color": style.palette(theme).chosen, "width": 2}
        fig.add_shape(
            type="rect", x0=start[i] + 0.1, x1=start[i] + len(texts[i]) + 0.9,
            y0=line[i] - 0.34, y1=line[i] + 0.34, line=frame,
        )  # fmt: skip
    n_lines = int(line.max(initial=0)) + 1
    fig.update_xaxes(visible=False, range=[0, across + 1], fixedrange=True)
    fig.update_yaxes(visible=False, range=[n_lines - 0.4, -0.5], fixedrange=True)
    fig.update_layout(barmode="overlay", showlegend=True, legend_itemclick=False)
    below = " The thin bar below a token: the verdict with random weights." if len(runs) > 1 else ""
    style.caption(fig, f"Verdict on the direction of each token's state.{below}", below=8)
    entries = {verdict for of in here.values() for verdict in of.tolist() if verdict}
    return give_room(fig, _LINE_PX * n_lines, legend_lines=len(entries))


def flow(lengths: list[int], across: int) -> tuple[np.ndarray, np.ndarray]:
    """Where each token begins, in characters, and its line."""
    start, line, at, row = [], [], 0, 0
    for length in lengths:
        if at and at + length + 1 > across:
            at, row = 0, row + 1
        start.append(at)
        line.append(row)
        at += length + 1
    return np.array(start, float), np.array(line, float)


def _hover(result: FixedPoint, batch: int, p: int) -> str:
    lines = [f"<b>{labels.token_label(result.tokens[batch][p])}</b>  (position {p})"]
    runs: dict[str, Any] = {"trained": result, "random": result.control}
    for name, run in runs.items():
        if run is not None:
            last = run.direction[-1, batch, p]
            step = f"{last:.3g}" if np.isfinite(last) else "undefined"
            lines.append(f"{name}: {run.verdict[batch, p]}, last direction step {step}")
    return "<br>".join(lines)
