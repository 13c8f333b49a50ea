"""Figure of a comparison: one panel a quantity, one line a run, told apart by colour, dash and marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.comparison import Comparison

_COLS, _PANEL_PX, _GAP_PX = 3, 200, 92
_ALONE_PX = 320
_LINE_CHARS = 100
"""Characters of legend entries on one line at 800 pixels."""
_MAX_NAME = 32


def draw(result: Comparison, quantities: Sequence[str], *, theme: style.Theme) -> go.Figure:
    """Small multiples of the chosen quantities."""
    shown = [result.quantities.index(name) for name in quantities]
    cols = min(_COLS, len(shown))
    rows = -(-len(shown) // cols)
    alone = len(shown) == 1
    fig = style.new_figure(
        labels.escape(result.heading),
        _subtitle(result),
        theme=theme,
        rows=rows,
        cols=cols,
        panels=None if alone else [_head(result, q) for q in shown],
        horizontal_spacing=0.085,
        vertical_spacing=_GAP_PX / (rows * _PANEL_PX + (rows - 1) * _GAP_PX),
    )
    fig.update_annotations(font_size=12)
    for i, q in enumerate(shown):
        cell: dict[str, Any] = {"row": i // cols + 1, "col": i % cols + 1}
        for run in range(len(result.runs)):
            _line(fig, result, q, run, cell, theme, legend=i == 0)
        _chance(fig, result, q, cell, theme)
        _axes(fig, result, q, cell, narrow=cols > 1)
        same = [p for p in shown[:i] if result.formulas[p] == result.formulas[q]]
        if same:
            # One measure in several panels has one scale.
            first = shown.index(same[0])
            fig.update_yaxes(matches="y" if first == 0 else f"y{first + 1}", **cell)
        if alone:
            fig.update_yaxes(title={"text": labels.escape(result.quantities[q])}, **cell)
    style.caption(fig, _caption(result, shown))
    # Of a single run the subtitle gives the name.
    fig.update_layout(showlegend=len(result.runs) > 1)
    plot = _ALONE_PX if alone else rows * _PANEL_PX + (rows - 1) * _GAP_PX
    return give_room(fig, plot, legend_lines=_legend_lines(result), panel_titles=not alone)


def _line(
    fig: go.Figure,
    result: Comparison,
    q: int,
    run: int,
    cell: dict[str, Any],
    theme: style.Theme,
    *,
    legend: bool,
) -> None:
    there = np.isfinite(result.x[q, run])
    x, value, low, high = (
        getattr(result, name)[q, run, there] for name in ("x", "value", "low", "high")
    )
    if result.log[q]:
        # Nothing at or below 0 has a place on the axis.
        value, low, high = (np.where(v > 0, v, np.nan) for v in (value, low, high))
    look = _look(run, theme)
    name = labels.token_label(result.runs[run], _MAX_NAME).replace("·", " ")
    add_band(fig, x, low, high, look["color"], legendgroup=str(run), **cell)
    many = len(x) > 33
    fig.add_scatter(
        x=x,
        y=value,
        name=name,
        legendgroup=str(run),
        showlegend=legend,
        mode="lines" if many else "lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={
            # The Head's output stands apart from what iterations made of it.
            "symbol": [
                _open(look["symbol"]) if result.head[q] and k == 0 else look["symbol"] for k in x
            ],
            "size": 7,
        },
        customdata=np.stack([low, high], -1),
        hovertemplate=_hover(result, q, name, bool(np.isfinite(low).any())),
        **cell,
    )


def _open(symbol: str) -> str:
    return symbol if symbol.endswith("-open") else f"{symbol}-open"


def _look(run: int, theme: style.Theme) -> dict[str, Any]:
    """Colour, dash and marker; where the colours begin anew, dashes are others and markers open."""
    look, n = style.series(run, theme), len(style.MARKERS)
    if run < n:
        return look
    return look | {
        "dash": style.DASHES[(run + 2 * (run // n)) % n],
        "symbol": f"{look['symbol']}-open",
    }


def _hover(result: Comparison, q: int, name: str, interval: bool) -> str:
    x = labels.escape(result.x_titles[q])
    band = "<br>band %{customdata[0]:.3g} … %{customdata[1]:.3g}" if interval else ""
    return f"<b>{name}</b><br>{x}: %{{x:.4g}}<br>{labels.escape(result.quantities[q])}: %{{y:.4g}}{band}<extra></extra>"


def _chance(
    fig: go.Figure, result: Comparison, q: int, cell: dict[str, Any], theme: style.Theme
) -> None:
    level = result.chance[q]
    if np.isfinite(level):
        muted = style.palette(theme).muted
        fig.add_hline(
            y=level,
            line={"color": muted, "dash": "dot", "width": 1.5},
            annotation={"text": f"chance {level:.2g}", "font": {"size": 11}, "yshift": -2},
            annotation_position="bottom right",
            **cell,
        )


def _axes(
    fig: go.Figure, result: Comparison, q: int, cell: dict[str, Any], *, narrow: bool
) -> None:
    x = result.x[q][np.isfinite(result.x[q])]
    if not x.size:
        return
    first, last = int(np.floor(x.min())), int(np.ceil(x.max()))
    title = result.x_titles[q]
    if title.startswith("iteration"):
        style.iteration_axis(
            fig, last - first + 1, "x", first=first, title=title,
            max_ticks=6 if narrow else 17, **cell,
        )  # fmt: skip
    else:
        fig.update_xaxes(title={"text": title}, zeroline=False, rangemode="tozero", **cell)
    fig.update_yaxes(nticks=6, zeroline=False, tickfont_size=11, **cell)
    if result.log[q]:
        fig.update_yaxes(**_decades(result.value[q]), **cell)


def _decades(values: np.ndarray) -> dict[str, Any]:
    """A logarithmic axis: whole powers where there are several, else numbers written out."""
    logs = np.log10(values[np.isfinite(values) & (values > 0)])
    span = float(np.ptp(logs)) if logs.size else 0.0
    if span < 2:
        return {
            "type": "log",
            "nticks": 5,
            "dtick": "D2" if span > 0.8 else None,
            "tickformat": "~g",
        }
    return {"type": "log", "dtick": int(np.ceil(span / 5)), "exponentformat": "power"}


def _head(result: Comparison, q: int) -> str:
    return f"<b>{labels.escape(result.quantities[q])}</b><br>{labels.escape(result.formulas[q])}"


def _subtitle(result: Comparison) -> str:
    n = len(set(result.families)) if result.several_models else 0
    name = labels.token_label(result.runs[0] if len(result.runs) == 1 else result.model.name, 40)
    many = (
        name if len(result.runs) == 1 or not result.several_models else f"{len(result.runs)} models"
    )
    if n > 1:
        many += f" of {n} loop families"
    if not result.tokens:
        return many
    if not result.several_models:
        # Prompts are the names of the runs, in the legend.
        return f"{many} · r = {result.n_iters}"
    return f"{many} · r = {result.n_iters} · {labels.prompt_label(result.tokens[0], 40)}"


def _legend_lines(result: Comparison) -> int:
    names = [min(len(name), _MAX_NAME) + 8 for name in result.runs]
    # Plotly gives every entry the width of the longest.
    each_line = max(1, _LINE_CHARS // max(names))
    return -(-len(names) // each_line) if len(names) > 1 else 0


def _caption(result: Comparison, shown: Sequence[int]) -> str:
    text = f"{result.band[:1].upper()}{result.band[1:]}."
    if len(shown) == 1:
        formula = result.formulas[shown[0]]
        text = f"{formula[:1].upper()}{formula[1:]}. {text}"
    if any(result.head[q] for q in shown):
        text += " Open marker: k = 0, the Head alone."
    if result.counts_differ:
        by_count: dict[str, list[str]] = {}
        for run, count in zip(result.runs, result.counts, strict=True):
            by_count.setdefault(count, []).append(run)
        told = "; ".join(f"{', '.join(runs)}: {count}" for count, runs in by_count.items())
        text += f" One iteration is not the same in all. {told}."
    return " ".join([text, *result.notes])
