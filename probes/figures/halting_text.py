"""The text itself, every token in the colour of its exit step; exit steps by class of token; a run that was timed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.room import give_room
from probes.figures.verdict_strip import ACROSS, flow

if TYPE_CHECKING:
    from probes.early_exit.live import LiveRun
    from probes.early_exit.outcome import HaltingOutcome

_LONGEST, _LINE_PX = 16, 34


def draw(
    result: HaltingOutcome, *, theme: style.Theme, batch: int = 0, across: int = ACROSS
) -> go.Figure:
    """The sequence as running text, `across` characters a line; hover shows the rule's value at every k."""
    there = np.flatnonzero(result.exit_step[batch] >= 0)
    texts = [labels.visible(result.tokens[batch][p], _LONGEST) for p in there]
    start, line = flow([len(text) for text in texts], across)
    exits = result.exit_step[batch, there]
    rule = labels.escape(result.rule["title"])
    sign = "≥" if result.rule["stops"] == "at_least" else "<"
    fig = style.new_figure(
        f"Exit step of every token · {rule} {sign} {result.threshold:.3g}",
        style.subtitle(result, batch),
        theme=theme,
    )
    colors = style.iteration_colors(result.n_iters + 1, theme)
    for k in np.unique(exits):
        own = np.flatnonzero(exits == k)
        fig.add_bar(
            orientation="h",
            base=start[own] + 0.1,
            x=[len(texts[i]) + 0.8 for i in own],
            y=line[own],
            width=0.72,
            name=f"k = {k}: {len(own)}",
            marker={"color": colors[int(k)], "opacity": 0.4, "line": {"width": 0}},
            text=[labels.escape(texts[i]) for i in own],
            textposition="inside",
            insidetextanchor="middle",
            textangle=0,
            constraintext="none",
            textfont={"family": style.MONO, "size": 11, "color": style.palette(theme).ink},
            customdata=[[int(there[i]), _hover(result, batch, int(there[i]), sign)] for i in own],
            hovertemplate="%{customdata[1]}<extra></extra>",
        )
    n_lines = int(line.max(initial=0)) + 1
    fig.update_xaxes(visible=False, range=[0, across + 1], fixedrange=True)
    fig.update_yaxes(visible=False, range=[n_lines - 0.4, -0.5], fixedrange=True)
    fig.update_layout(barmode="overlay", showlegend=True)
    style.caption(fig, f"{result.rule['formula']}. Hover: the rule's value after every k.", below=8)
    return give_room(fig, _LINE_PX * n_lines, legend_lines=1 + len(np.unique(exits)) // 5)


def _hover(result: HaltingOutcome, batch: int, p: int, sign: str) -> str:
    k = int(result.exit_step[batch, p])
    why = f"exit after {k}" if result.fired[batch, p] else f"never fired: full depth, {k}"
    lines = [
        f"<b>{labels.token_label(result.tokens[batch][p])}</b>  (position {p})",
        f"{why}; stops {sign} {result.threshold:.3g}",
    ]
    cells = []
    for i, value in enumerate(result.values[:, batch, p]):
        shown = f"{value:.2g}" if np.isfinite(value) else "–"
        cells.append(f"<b>{i}: {shown}</b>" if i == k else f"{i}: {shown}")
    lines += ["  ".join(cells[i : i + 5]) for i in range(0, len(cells), 5)]
    return "<br>".join(lines)


def classes(result: HaltingOutcome, *, theme: style.Theme) -> go.Figure:
    """Share of each class's tokens that exit after every k."""
    names, counts = result.by_class()
    sizes = counts.sum(1)
    fig = style.new_figure(
        f"Exit steps by class of token · {labels.escape(result.rule['title'])}",
        style.subtitle(result, None),
        theme=theme,
    )
    colors = style.iteration_colors(result.n_iters + 1, theme)
    shown = np.flatnonzero(sizes)
    ticks = [f"{labels.escape(names[c])} ({sizes[c]})" for c in shown]
    for k in np.flatnonzero(counts.sum(0)):
        share = counts[shown, k] / sizes[shown]
        fig.add_bar(
            orientation="h", y=ticks, x=share, name=f"k = {k}",
            marker={"color": colors[int(k)], "line": {"width": 0}},
            customdata=counts[shown, k],
            hovertemplate=f"k = {k}: %{{customdata}} tokens, %{{x:.0%}}<extra></extra>",
        )  # fmt: skip
    fig.update_layout(barmode="stack", showlegend=True, legend_traceorder="normal")
    fig.update_xaxes(title={"text": "share of the class's tokens"}, range=[0, 1], tickformat=".0%")
    fig.update_yaxes(autorange="reversed", showgrid=False, automargin=True)
    style.caption(fig, "Class by the token's first visible character; tokens in brackets.")
    return give_room(fig, 34 * max(3, len(shown)), legend_lines=2)


def live(result: LiveRun, *, theme: style.Theme) -> go.Figure:
    """Time and FLOPs as shares of full depth."""
    shares = [
        result.milliseconds / result.milliseconds_full,
        result.flops / result.flops_full,
    ]
    fig = style.new_figure(
        f"A halted run · {labels.escape(result.rule['title'])}, keys: {labels.escape(result.kv)}",
        style.subtitle(result, None),
        theme=theme,
    )
    looks = style.role("trained", theme), style.series(1, theme)
    for name, share, look in zip(("measured time", "FLOPs"), shares, looks, strict=True):
        fig.add_bar(
            orientation="h", y=[name], x=[share], marker={"color": look["color"]}, showlegend=False,
            hovertemplate=f"{name}: %{{x:.1%}} of full depth<extra></extra>",
        )  # fmt: skip
    fig.add_vline(x=1, line={"color": style.palette(theme).ink, "dash": "dash", "width": 1.5})
    fig.update_xaxes(title={"text": "share of full depth"}, rangemode="tozero", tickformat=".0%")
    style.caption(fig, f"{result.formula}.")
    return give_room(fig, 110)
