"""Figures of what is certified of a threshold, and of an exit probe's fit."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.fit_probe import ExitProbeFit
    from probes.early_exit.risk import RiskControl


def draw(result: RiskControl, *, theme: style.Theme) -> go.Figure:
    """Risk against mean depth on both halves of the documents, the target, and the chosen threshold."""
    n, m = result.n_documents
    fig = style.new_figure(
        f"Certified threshold · {labels.escape(result.rule['title'])}",
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {n} documents to certify, {m} to test",
        theme=theme,
    )
    test, own = style.series(1, theme), style.role("trained", theme)
    order = np.argsort(result.test_depth, kind="stable")
    value, low, high = result.test_risk[order].T
    add_band(fig, result.test_depth[order], low, high, test["color"])
    curves = (
        ("calibration", result.depth, result.risk, own),
        ("test", result.test_depth[order], value, test),
    )
    for name, x, y, look in curves:
        fig.add_scatter(
            x=x, y=y, name=name, mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": 6},
            hovertemplate=f"{name}<br>%{{x:.2f}} iterations, risk %{{y:.4f}}<extra></extra>",
        )  # fmt: skip
    ink = style.palette(theme).ink
    fig.add_hline(y=result.target, line={"color": ink, "dash": "dash", "width": 1.5})
    if result.chosen >= 0:
        fig.add_scatter(
            x=[result.depth[result.chosen]], y=[result.risk[result.chosen]], mode="markers",
            name=f"certified: τ = {result.threshold:.3g}",
            marker={"symbol": "circle-open", "size": 15, "color": ink, "line": {"width": 2.5}},
            hoverinfo="skip",
        )  # fmt: skip
    fig.update_xaxes(title={"text": "mean iterations per token"}, zeroline=False)
    fig.update_yaxes(title={"text": "share of tokens unlike full depth"}, rangemode="tozero")
    style.caption(
        fig, f"{result.formula}. Dashed: the target, {result.target:g}; δ = {result.delta:g}."
    )
    return give_room(fig, 290, legend_lines=1)


def probe(result: ExitProbeFit, *, theme: style.Theme) -> go.Figure:
    """AUROC by iteration, that of shuffled labels, and the share of settled tokens."""
    n, m = result.n_documents
    fig = style.new_figure(
        "Does the state tell that the answer stays?",
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {n} documents to fit, {m} to test",
        theme=theme,
    )
    curves = (
        ("AUROC", result.auroc, style.role("trained", theme)),
        ("AUROC, shuffled labels", result.auroc_shuffled, style.role("control", theme)),
        ("share of settled tokens", result.settled, style.series(2, theme)),
    )
    k = np.arange(len(result.auroc))
    for name, y, look in curves:
        fig.add_scatter(
            x=k, y=y, name=name, mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": 6},
            hovertemplate=f"{name}<br>k = %{{x}}: %{{y:.3f}}<extra></extra>",
        )  # fmt: skip
    style.iteration_axis(fig, len(k))
    fig.update_yaxes(title={"text": "on documents not fitted on"}, range=[0, 1.03])
    style.caption(fig, f"{result.formula}.")
    return give_room(fig, 260, legend_lines=1)
