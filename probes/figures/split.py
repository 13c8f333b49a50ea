"""Figures of where to loop a plain model: the angle of every block with its knee, and what every window adds to the loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.splits import Split

VIEWS = ("distances", "loss")


def draw(split: Split, view: str = "distances", theme: style.Theme = "light") -> go.Figure:
    """`view="distances"` or `"loss"`, the map over (start, length). Errors: InputError."""
    if view not in VIEWS:
        raise InputError(f"view={view!r}: expected one of {VIEWS}.")
    return _distances(split, theme) if view == "distances" else _losses(split, theme)


def _distances(split: Split, theme: style.Theme) -> go.Figure:
    fig = style.new_figure(
        "Where to loop · how far each block turns the stream", _subtitle(split), theme=theme
    )
    blocks, trained = np.arange(len(split.angular)), style.role("trained", theme)
    add_band(fig, blocks, split.angular_low, split.angular_high, trained["color"])
    curves = [("model", split.angular, trained)]
    if np.isfinite(split.control).any():
        curves.append((style.ROLES["control"], split.control, style.role("control", theme)))
    for name, values, look in curves:
        fig.add_scatter(
            x=blocks,
            y=values,
            name=name,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2.5},
            marker={"symbol": look["symbol"], "size": 7},
            hovertemplate=f"{name}, block %{{x}}<br>%{{y:.4f}} π<extra></extra>",
        )
    ink = style.palette(theme).muted
    fig.add_vline(x=split.knee, line={"dash": "dot", "color": ink, "width": 1.5})
    fig.add_annotation(
        x=split.knee, y=1, yref="paper", text=f"knee: block {split.knee}",
        showarrow=False, xanchor="left", xshift=6, font_color=ink,
    )  # fmt: skip
    style.iteration_axis(fig, len(blocks), title="block b")
    fig.update_yaxes(title={"text": "angle between its input and output, / π"}, rangemode="tozero")
    style.caption(fig, _caption(split))
    return give_room(fig, 300, legend_lines=1)


def _losses(split: Split, theme: style.Theme) -> go.Figure:
    fig = style.new_figure(
        "Where to loop · what each window adds to the loss", _subtitle(split), theme=theme
    )
    added = np.where(np.isfinite(split.added), split.added, np.nan)
    columns, rows = np.arange(len(split.lengths)), np.arange(len(split.starts))
    largest = float(np.nanmax(np.abs(added))) or 1.0
    fig.add_heatmap(
        z=added,
        x=columns,
        y=rows,
        zmid=0,
        zmin=-largest,
        zmax=largest,
        colorscale=style.diverging(theme),
        xgap=1,
        ygap=1,
        hoverongaps=False,
        text=[[f"{v:+.3f}" if np.isfinite(v) else "" for v in row] for row in added],
        texttemplate="%{text}" if added.size <= 200 else None,
        customdata=_hover(split),
        hovertemplate="%{customdata}<extra></extra>",
        colorbar={"title": {"text": "added loss, nats per token", "side": "right"}},
    )
    start, stop = split.best
    best = [int(np.flatnonzero(split.starts == start)[0])]
    fig.add_scatter(
        x=[int(np.flatnonzero(split.lengths == stop - start)[0])],
        y=best,
        name=f"lowest loss: blocks {start} to {stop - 1}",
        mode="markers",
        marker={
            "symbol": "square-open", "size": 22,
            "color": style.palette(theme).ink, "line": {"width": 2},
        },
        hoverinfo="skip",
        showlegend=True,
    )  # fmt: skip
    fig.update_xaxes(
        title={"text": "blocks in the loop"}, tickvals=columns, ticktext=split.lengths.tolist(),
        showgrid=False, zeroline=False,
    )  # fmt: skip
    fig.update_yaxes(
        title={"text": "first block"}, tickvals=rows, ticktext=split.starts.tolist(),
        showgrid=False, zeroline=False,
    )  # fmt: skip
    style.caption(fig, _caption(split))
    return give_room(fig, max(220, 26 * len(rows)), legend_lines=1)


def _hover(split: Split) -> list[list[str]]:
    cells = []
    for i, start in enumerate(split.starts):
        row = []
        for j, length in enumerate(split.lengths):
            low, high = split.added_low[i, j], split.added_high[i, j]
            bounds = f" [{low:+.4f}, {high:+.4f}]" if np.isfinite(low) else ""
            row.append(
                f"blocks {start} to {start + length - 1}<br>loss {split.loss[i, j]:.4f}, "
                f"added {split.added[i, j]:+.4f}{bounds}"
            )
        cells.append(row)
    return cells


def _subtitle(split: Split) -> str:
    return (
        f"{labels.escape(split.model.name)} · r = {split.n_iters} · {labels.escape(split.rule)}"
        f" · {split.n_documents} documents, {split.n_targets} tokens"
    )


def _caption(split: Split) -> str:
    bounds = (
        "Band and bounds: 95%, documents drawn with replacement."
        if split.n_documents > 1
        else "One document, so no interval."
    )
    return f"{split.formula}; without a loop {split.plain_loss:.4f}. {bounds}"
