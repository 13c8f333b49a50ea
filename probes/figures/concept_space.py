"""Figures of concept space: where the current token's rank rises and the next one's falls, along the whole pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.grid import span
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.concept_probes import ConceptProbes
    from probes.concept_space import ConceptSpace

NAMES = {"current": "the token itself", "next": "the next token"}
_STAGES = {"head": "Head", "loop": "iterations", "tail": "Tail"}


def draw(result: ConceptSpace, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    views: dict[str, Any] = {"ranks": ranks, "found": found, "tokens": tokens}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def ranks(result: ConceptSpace, *, theme: style.Theme) -> go.Figure:
    """Median rank, and quartiles, of both tokens at every place; random weights and the embedding's rank beside."""
    curves = {name: result.median_rank(name)[:, [1, 0, 2]] for name in NAMES}
    beside = result.control
    controls = (
        {} if beside is None else {name: beside.median_rank(name)[:, [1, 0, 2]] for name in NAMES}
    )
    fig = _curves(result, curves, controls, theme)
    fig.update_yaxes(
        title="rank", type="log", autorange="reversed", exponentformat="power", dtick=1
    )
    text = (
        f"{result.formula}, of {result.n_vocab} tokens. Line: median over tokens; band: quartiles"
    )
    return _finished(fig, text)


def found(result: ConceptSpace, *, theme: style.Theme) -> go.Figure:
    """Share of tokens at rank 1 at every place."""
    beside = result.control
    fig = _curves(result, result.found, {} if beside is None else beside.found, theme)
    fig.update_yaxes(title="share at rank 1", range=[-0.03, 1.03])
    many = "; band: 95% interval over the sequences" if len(result.tokens) > 1 else ""
    return _finished(fig, f"{result.formula}. Share of tokens at rank 1{many}")


def probed(result: ConceptProbes, *, theme: style.Theme) -> go.Figure:
    """Accuracy of probes for both tokens at every place."""
    curves, controls = (
        {name: result.accuracy(name, condition) for name in NAMES}
        for condition in ("trained", "untrained")
    )
    fig = _curves(result, curves, controls, theme)
    for i, fitted in enumerate((result.current, result.following)):
        fig.add_hline(
            y=float(fitted.majority[0]),
            line={"color": style.series(i, theme)["color"], "dash": "dot", "width": 1},
            annotation_text=f"most frequent, {NAMES[tuple(NAMES)[i]]}",
            annotation_font_size=10,
            annotation_position="bottom right" if i else "bottom left",
        )
    fig.update_yaxes(title="accuracy", range=[-0.03, 1.03])
    n = len(result.current.classes), len(result.following.classes)
    text = f"{result.formula} ({n[0]} of the token itself, {n[1]} of the next); band: 95% interval over documents"
    return _finished(fig, text)


def _curves(
    result: ConceptSpace | ConceptProbes,
    curves: dict[str, np.ndarray],
    controls: dict[str, np.ndarray],
    theme: style.Theme,
) -> go.Figure:
    """Lines of [place, 3] (value, low, high) by token, with those of random weights and the embedding's level."""
    fig = style.new_figure(result.title, style.subtitle(result, None), theme=theme)
    x = np.arange(len(result.places))
    _stages(fig, result, theme)
    for i, name in enumerate(NAMES):
        look = style.series(i, theme)
        if name in controls:
            _line(
                fig,
                x,
                controls[name],
                f"{NAMES[name]}, random weights",
                look | {"dash": "dot"},
                True,
                result,
            )
        _line(fig, x, curves[name], NAMES[name], look, False, result)
        level = float(curves[name][0, 0])
        if np.isfinite(level):
            fig.add_scatter(
                x=[x[0], x[-1]], y=[level, level], mode="lines", name=f"{NAMES[name]}, from the embedding alone",
                line={"color": look["color"], "width": 1, "dash": "dash"}, hoverinfo="skip",
            )  # fmt: skip
    _place_axis(fig, result, "x")
    return fig


def _line(
    fig: go.Figure,
    x: np.ndarray,
    values: np.ndarray,
    name: str,
    look: dict[str, Any],
    open_: bool,
    result: Any,
) -> None:
    if not open_:
        add_band(fig, x, values[:, 1], values[:, 2], look["color"], alpha=0.15)
    fig.add_scatter(
        x=x,
        y=values[:, 0],
        name=name,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 1.5 if open_ else 2.5},
        marker={"symbol": look["symbol"] + ("-open" if open_ else ""), "size": 7},
        customdata=[labels.escape(place) for place in result.places],
        hovertemplate=f"<b>{name}</b><br>%{{customdata}}<br>%{{y:.4g}}<extra></extra>",
    )


def _stages(fig: go.Figure, result: ConceptSpace | ConceptProbes, theme: style.Theme) -> None:
    """Shade the loop, and name the stages above the plot."""
    stage = np.array(result.stage)
    for name, title in _STAGES.items():
        there = np.flatnonzero(stage == name)
        if not len(there):
            continue
        left, right = there[0] - 0.5, there[-1] + 0.5
        if name == "loop":
            fig.add_vrect(
                x0=left,
                x1=right,
                fillcolor=style.palette(theme).grid,
                opacity=0.45,
                line_width=0,
                layer="below",
            )
        fig.add_annotation(
            x=(left + right) / 2,
            y=1.0,
            yref="paper",
            yanchor="bottom",
            text=title,
            showarrow=False,
            font_size=12,
        )


def _place_axis(fig: go.Figure, result: ConceptSpace | ConceptProbes, axis: str) -> None:
    n = len(result.places)
    every = -(-n // 24)
    shown = [i for i in range(n) if i % every == 0 or result.stage[i] != "loop"]
    settings = {
        "tickmode": "array",
        "tickvals": shown,
        "ticktext": [labels.escape(_short(result.places[i])) for i in shown],
        "range": [-0.5, n - 0.5],
        "zeroline": False,
        "showgrid": False,
    }
    if axis == "x":
        fig.update_xaxes(
            **settings,
            tickangle=0,
            title="place: iteration k, between the Head’s and the Tail’s blocks",
        )
    else:
        fig.update_yaxes(**settings, title="place")


def _short(place: str) -> str:
    if place.startswith("z@"):
        return place[2:]
    return "E" if place == "embed" else f"{place[0].upper()}{place.rpartition('.')[2]}"


def _finished(fig: go.Figure, text: str) -> go.Figure:
    text += (
        ". E: the token embedding, H and T: after a block of Head or Tail, k: z after k iterations."
    )
    return give_room(style.caption(fig, text, below=50), 320, legend_lines=6, panel_titles=True)


def tokens(
    result: ConceptSpace, *, theme: style.Theme, of: str = "current", batch: int = 0
) -> go.Figure:
    """One sequence, token × place, coloured by log10 of the rank."""
    if of not in NAMES:
        raise InputError(f"of={of!r}: expected one of {', '.join(NAMES)}.")
    if not 0 <= batch < len(result.tokens):
        raise InputError(f"batch={batch}: expected 0 to {len(result.tokens) - 1}.")
    real = result.valid[batch]
    values = getattr(result, f"{of}_rank")[:, batch, real]
    words = [t for t, there in zip(result.tokens[batch], real, strict=True) if there]
    shown = np.log10(values)
    low, high = span([shown])
    names = [labels.token_label(word) for word in words]
    fig = style.new_figure(
        f"{result.title}: rank of {NAMES[of]}", style.subtitle(result, batch), theme=theme
    )
    fig.add_heatmap(
        z=shown,
        zmin=low,
        zmax=high,
        colorscale=style.SEQUENTIAL,
        reversescale=True,
        customdata=[[f"{w} (position {p})<br>{q}<br>rank {v:.0f}" for p, (w, v) in enumerate(zip(names, row, strict=True))]
                    for q, row in zip(map(labels.escape, result.places), values, strict=True)],
        hovertemplate="%{customdata}<extra></extra>",
        colorbar={"title": {"text": "log₁₀ rank", "side": "right"}},
    )  # fmt: skip
    _place_axis(fig, result, "y")
    below = style.token_axis(fig, words)
    style.caption(fig, result.formula + ".", below=below)
    return give_room(fig, 60 + 20 * len(result.places))
