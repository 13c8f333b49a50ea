"""Figures of skipping and repeating iterations: means by class of tokens, and token × iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.grid import token_grid
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.interventions.skipping import Skipping

NAMES = {"kl": "KL to the whole run (nats)", "delta_nll": "change in NLL (nats)"}
DONE = {"skip": "iteration i skipped", "repeat": "iteration i done twice"}


def draw(result: Skipping, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    views: dict[str, Any] = {"classes": classes, "tokens": tokens}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def classes(result: Skipping, *, theme: style.Theme, metric: str = "kl") -> go.Figure:
    """Mean over the tokens of each class against the iteration that is skipped, and repeated."""
    if metric not in NAMES:
        raise InputError(f"metric={metric!r}: expected one of {', '.join(NAMES)}.")
    fig = style.new_figure(
        result.title,
        style.subtitle(result, None),
        theme=theme,
        rows=1,
        cols=2,
        panels=[f"<b>{name}</b>" for name in DONE.values()],
        shared_yaxes=True,  # type: ignore[arg-type]
        horizontal_spacing=0.06,
    )
    for col, done in enumerate(DONE, 1):
        cell: dict[str, Any] = {"row": 1, "col": col}
        name = f"{done}_{metric}"
        if result.control is not None:
            random = result.control.means[name][:, 0]
            look = style.role("control", theme)
            _line(fig, random, "random weights, all tokens", look, col == 1, metric == "kl", **cell)
        for c in range(len(result.classes) - 1, -1, -1):
            if np.isfinite(result.means[name][:, c, 0]).any():
                look = style.role("trained", theme) if c == 0 else style.series(c + 1, theme)
                look |= {"color": style.palette(theme).ink} if c == 0 else {}
                _line(
                    fig,
                    result.means[name][:, c],
                    result.classes[c],
                    look,
                    col == 1,
                    metric == "kl",
                    **cell,
                )
        style.iteration_axis(fig, result.n_iters, title="iteration i", max_ticks=9, **cell)
    fig.update_yaxes(title=NAMES[metric], row=1, col=1)
    if metric == "kl":
        fig.update_yaxes(type="log", exponentformat="power")
    many = "; band: 95% interval over the sequences" if len(result.tokens) > 1 else ""
    text = f"{result.formula}. Mean by class of the token ({result.label}){many}."
    alike = [name for done, name in DONE.items() if result.alike(done)]
    if alike:
        text += f" With {' and with '.join(alike)} the run is the same for every i: no row can tell iterations apart."
    style.caption(fig, text, below=50)
    fig.update_layout(legend_traceorder="reversed")
    return give_room(fig, 300, legend_lines=2, panel_titles=True)


def _line(
    fig: go.Figure,
    values: np.ndarray,
    name: str,
    look: dict[str, Any],
    legend: bool,
    log: bool,
    **cell: int,
) -> None:
    i, label = np.arange(len(values)), labels.escape(name)
    values = np.where(values > 0, values, np.nan) if log else values
    add_band(fig, i, values[:, 1], values[:, 2], look["color"], alpha=0.12, **cell)
    fig.add_scatter(
        x=i,
        y=values[:, 0],
        name=label,
        legendgroup=label,
        showlegend=legend,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 6},
        hovertemplate=f"<b>{label}</b><br>i = %{{x}}<br>%{{y:.4g}}<extra></extra>",
        **cell,
    )


def tokens(
    result: Skipping, *, theme: style.Theme, metric: str = "skip_kl", batch: int = 0
) -> go.Figure:
    """One sequence, token × iteration."""
    known = result.per_token()
    if metric not in known:
        raise InputError(f"metric={metric!r}: expected one of {', '.join(known)}.")
    if not 0 <= batch < len(result.tokens):
        raise InputError(f"batch={batch}: expected 0 to {len(result.tokens) - 1}.")
    done, _, what = metric.partition("_")
    real = result.valid[batch]
    fig = style.new_figure(
        f"{result.title}: {DONE[done]}", style.subtitle(result, batch), theme=theme
    )
    colors: dict[str, Any] = {} if what == "delta_nll" else {"colorscale": style.SEQUENTIAL}
    below = token_grid(
        fig,
        known[metric][:, batch, real],
        [token for token, there in zip(result.tokens[batch], real, strict=True) if there],
        name=NAMES[what],
        middle=0.0 if what == "delta_nll" else None,
        theme=theme,
        **colors,
    )
    fig.update_yaxes(title="iteration i")
    return give_room(
        style.caption(fig, f"{result.formula}.", below=below), 40 + 24 * result.n_iters
    )
