"""Figure of linear probes: accuracy against the iteration, every baseline a line of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.linear_probes import LinearProbes


def accuracy(result: LinearProbes, *, site: str | None, theme: Any) -> go.Figure:
    """One panel a site: the model's states with their interval, and all five baselines."""
    if site is not None and site not in result.sites:
        raise InputError(f"site={site!r}: expected one of {', '.join(result.sites)}.")
    shown = list(result.sites) if site is None else [site]
    fig = style.new_figure(
        f"Linear probes · {labels.escape(result.description)}",
        f"{labels.escape(result.model.name)} · r = {result.n_iters} ·"
        f" {sum(result.n_documents)} documents, {int(result.counts.sum())} tokens",
        theme=theme,
        rows=len(shown),
        cols=1,
        panels=[labels.escape(name) for name in shown],
        vertical_spacing=0.25 / len(shown),
    )
    for row, name in enumerate(shown, start=1):
        _panel(fig, result, result.sites.index(name), row, theme)
        last = row == len(shown)
        style.iteration_axis(
            fig, result.trained.shape[1], row=row, col=1, title="iteration k" if last else None
        )
    fig.update_yaxes(title={"text": "accuracy"})
    style.caption(fig, _caption(result))
    return give_room(fig, 290 * len(shown), legend_lines=2, panel_titles=True)


def _panel(fig: go.Figure, result: LinearProbes, s: int, row: int, theme: Any) -> None:
    k = np.arange(result.trained.shape[1])
    colors = style.palette(theme)
    curves = [
        ("shuffled labels", result.shuffled[s], style.series(4, theme) | {"dash": "dot"}),
        ("untrained model", result.untrained[s], style.role("control", theme)),
        ("trained model", result.trained[s], style.role("trained", theme)),
    ]
    for name, values, look in curves:
        there = np.isfinite(values[:, 1])
        # One band only: the scores share their test documents, so three would hide one another.
        if name == "trained model" and there.sum() > 1:
            fig.add_scatter(
                x=np.concatenate([k[there], k[there][::-1]]),
                y=np.concatenate([values[there, 2], values[there, 1][::-1]]),
                fill="toself",
                fillcolor=style.rgba(look["color"], 0.15),
                line={"width": 0},
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
                legendgroup=name,
                row=row,
                col=1,
            )
        fig.add_scatter(
            x=k,
            y=values[:, 0],
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2.5},
            marker={"symbol": look["symbol"], "size": 7},
            customdata=values[:, 1:],
            hovertemplate=f"{name}, k = %{{x}}<br>%{{y:.3f}}  [%{{customdata[0]:.3f}},"
            " %{customdata[1]:.3f}]<extra></extra>",
            row=row,
            col=1,
        )
    flat = [
        (
            "h<sub>0</sub> (Head output)",
            result.head_output,
            style.role("h0", theme)["color"],
            "dash",
        ),
        ("token embedding", result.embedding, colors.ink, "dashdot"),
        ("majority class", result.majority, colors.muted, "dot"),
    ]
    for name, values, color, dash in flat:
        fig.add_scatter(
            x=[-0.5, result.trained.shape[1] - 0.5],
            y=[values[0]] * 2,
            name=name,
            legendgroup=name,
            showlegend=row == 1,
            mode="lines",
            line={"color": color, "dash": dash, "width": 1.5},
            hovertemplate=f"{name}: %{{y:.3f}}<extra></extra>",
            row=row,
            col=1,
        )


def _caption(result: LinearProbes) -> str:
    classes = ", ".join(
        f"{name} {train}+{test}"
        for name, (train, test) in zip(result.classes, result.counts, strict=True)
    )
    text = f"{result.formula}. Tokens by class (training + test): {classes}."
    if result.dropped_classes:
        text += f" Left out, in fewer than two documents: {', '.join(result.dropped_classes)}."
    if result.unfinished:
        text += f" {result.unfinished} fits stopped at the solver's iteration limit."
    return text
