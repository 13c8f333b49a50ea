"""Figures of linear probes: scores against the iteration with every baseline, selectivity, confusion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, probe_curves, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.probing.result import LinearProbes

_NAMES = {
    "trained": "trained model",
    "untrained": "untrained model",
    "control": "control task (random label by word type)",
    "shuffled": "shuffled labels",
    "selectivity": "trained − control task",
}


def draw(
    result: LinearProbes, *, view: str, site: str | None, iteration: int, theme: style.Theme
) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view, site or iteration."""
    if site is not None and site not in result.sites:
        raise InputError(f"site={site!r}: expected one of {', '.join(result.sites)}.")
    if view == "confusion":
        return confusion(result, site or result.sites[0], iteration, theme)
    views = {
        "score": ("shuffled", "control", "untrained", "trained"),
        "selectivity": ("selectivity",),
    }
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}, confusion.")
    shown = list(result.sites) if site is None else [site]
    fig = style.new_figure(
        f"Linear probes · {labels.escape(result.description)}",
        _subtitle(result),
        theme=theme,
        rows=len(shown),
        cols=1,
        panels=[labels.escape(name) for name in shown],
        vertical_spacing=0.25 / len(shown),
    )
    for row, name in enumerate(shown, start=1):
        for condition in views[view]:
            values = getattr(result, condition)[result.sites.index(name)]
            banded = condition in ("trained", "selectivity")
            probe_curves.curve(
                fig,
                condition,
                _NAMES[condition],
                values,
                theme,
                band=banded,
                row=row,
                legend=row == 1,
            )
        if view == "score":
            _baselines(fig, result, row, theme)
        else:
            zero: dict[str, Any] = {
                "line": {"color": style.palette(theme).line},
                "row": row,
                "col": 1,
            }
            fig.add_hline(y=0, **zero)
        title = "iteration k" if row == len(shown) else None
        style.iteration_axis(fig, result.trained.shape[1], row=row, col=1, title=title)
    unit = "R²" if result.kind == "regression" else "accuracy"
    fig.update_yaxes(title={"text": unit if view == "score" else f"selectivity ({unit})"})
    style.caption(fig, _caption(result))
    return give_room(
        fig, 290 * len(shown), legend_lines=3 if view == "score" else 1, panel_titles=True
    )


def confusion(result: LinearProbes, site: str, iteration: int, theme: style.Theme) -> go.Figure:
    """Test tokens by true and predicted class, as shares of the true class."""
    if result.kind != "classes":
        raise InputError(f"view='confusion': only labels with classes have one, not {result.kind}.")
    s = result.sites.index(site)
    n_rows = max(1, int(result.rows[s]))
    k = iteration + n_rows if iteration < 0 else iteration
    if not 0 <= k < n_rows:
        raise InputError(f"iteration={iteration}: {site} has rows 0 to {n_rows - 1}.")
    counts = result.confusion[s, k]
    totals = counts.sum(1, keepdims=True)
    shares = np.where(totals > 0, counts / np.maximum(totals, 1), np.nan)
    names = [labels.name_label(name) for name in result.classes]
    text = counts if len(names) <= 10 else None
    fig = style.new_figure(
        f"Confusion at k = {k} · {labels.escape(result.description)}",
        _subtitle(result),
        theme=theme,
    )
    fig.add_heatmap(
        z=shares,
        x=names,
        y=names,
        zmin=0,
        zmax=1,
        xgap=1,
        ygap=1,
        customdata=counts,
        text=text,
        texttemplate=None if text is None else "%{text}",
        hovertemplate="true %{y}, said %{x}<br>%{customdata} tokens, %{z:.1%} of the class<extra></extra>",
        colorbar={"title": {"text": "share of the true class", "side": "right"}},
    )
    shared: dict[str, Any] = {"showgrid": False, "type": "category"}
    longest = max(map(len, names))
    upright = longest * len(names) <= 85
    angle = 0 if upright else -90
    fig.update_xaxes(title={"text": "predicted"}, tickangle=angle, **shared)
    fig.update_yaxes(title={"text": "true"}, autorange="reversed", **shared)
    below = 52 if upright else 44 + 7 * longest
    style.caption(fig, f"{site}, {int(totals.sum())} test tokens.", below=below)
    fig.update_layout(margin_l=44 + 7 * longest)
    return give_room(fig, 60 + min(40 * len(names), 420))


def _subtitle(result: LinearProbes) -> str:
    return (
        f"{labels.escape(result.model.name)} · r = {result.n_iters} ·"
        f" {sum(result.n_documents)} documents, {int(result.counts.sum())} tokens"
    )


def _baselines(fig: go.Figure, result: LinearProbes, row: int, theme: style.Theme) -> None:
    colors = style.palette(theme)
    h0 = style.role("h0", theme)["color"]
    majority = "training mean" if result.kind == "regression" else "majority class"
    for name, values, color, dash in (
        ("h<sub>0</sub> (Head output)", result.head_output, h0, "dash"),
        ("token embedding", result.embedding, colors.ink, "dashdot"),
        (majority, result.majority, colors.muted, "dot"),
    ):
        n = result.trained.shape[1]
        probe_curves.level(fig, name, values[0], n, color, dash, row=row, legend=row == 1)


def _caption(result: LinearProbes) -> str:
    if result.kind == "regression":
        (sides,) = result.counts.tolist()
        text = f"{result.equation}. Tokens (training + validation + test): {'+'.join(map(str, sides))}."
    else:
        classes = ", ".join(
            f"{name} {'+'.join(map(str, sides))}"
            for name, sides in zip(result.classes, result.counts.tolist(), strict=True)
        )
        text = f"{result.equation}. Tokens by class (training + validation + test): {classes}."
    if result.dropped_classes:
        text += f" Left out, in fewer than two documents: {', '.join(result.dropped_classes)}."
    if result.unfinished:
        text += f" {result.unfinished} fits stopped before the solver was done."
    return text
