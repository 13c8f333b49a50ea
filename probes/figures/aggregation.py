"""An analysis over a corpus as small multiples: every metric against the iteration, by variant or by class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.aggregation import CorpusAnalysis, DocumentSets

_ROLES: dict[str, Literal["trained", "control", "shuffled"]] = {
    "trained": "trained", "random": "control", "shuffled": "shuffled",
}  # fmt: skip
_COLUMNS, _PANEL_PX = 3, 170


def draw(
    result: CorpusAnalysis,
    *,
    theme: style.Theme,
    metrics: Sequence[str] | None = None,
    by: str = "variant",
    log: bool = True,
) -> go.Figure:
    """One panel a metric; by default those with more than one iteration. Errors: InputError for an unknown metric or `by`.

    `by="variant"`: mean with its interval, and the 10-90 % band of the trained model's tokens; `by="class"`: means
    of the trained model's tokens by class.
    """
    if by not in ("variant", "class"):
        raise InputError(f"by={by!r}: expected 'variant' or 'class'.")
    curves = [m for m, mean in result.mean.items() if mean.shape[-1] > 1]
    chosen = [result.require(m) for m in metrics] if metrics else curves or list(result.mean)
    lines = {m: _variants(result, m) if by == "variant" else _classes(result, m) for m in chosen}
    said = "Means over tokens. "
    if by == "variant":
        said += "Thin band: 95 % interval by bootstrap over documents; wide band: 10–90 % of the trained model's tokens."
    many = len(result.classes) > 4 and by == "class"
    return _panels(
        lines,
        f"{labels.escape(result.analysis)} over a corpus",
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {result.n_tokens:,} tokens of "
        f"{result.n_documents:,} documents",
        said,
        theme=theme,
        log=log,
        legend_lines=1 + many,
    )


def draw_sets(
    result: DocumentSets,
    *,
    theme: style.Theme,
    metrics: Sequence[str] | None = None,
    variant: str = "trained",
    log: bool = True,
) -> go.Figure:
    """One panel a metric, one line a set, with its interval; `variant` whose. Errors: InputError for an unknown one."""
    sets = list(result.sets.values())
    if variant not in sets[0].variants:
        raise InputError(
            f"variant={variant!r}: expected one of {', '.join(sets[0].variants)}, which were run."
        )
    v = sets[0].variants.index(variant)
    curves = [m for m, mean in sets[0].mean.items() if mean.shape[-1] > 1]
    chosen = [sets[0].require(m) for m in metrics] if metrics else curves or list(sets[0].mean)
    lines = {
        m: [
            {
                "name": labels.escape(name),
                "y": one.mean[m][v, 0],
                "low": one.low[m][v],
                "high": one.high[m][v],
            }
            for name, one in result.sets.items()
        ]
        for m in chosen
    }
    return _panels(
        lines,
        f"{labels.escape(sets[0].analysis)} by document set",
        f"{labels.escape(result.model.name)} · {style.ROLES[_ROLES[variant]]} · r = {result.n_iters} · "
        + ", ".join(f"{labels.escape(n)} {s.n_tokens:,} tokens" for n, s in result.sets.items()),
        "Means over tokens. Band: 95 % interval by bootstrap over documents.",
        theme=theme,
        log=log,
        legend_lines=1 + len(sets) // 5,
    )


def _panels(
    lines: dict[str, list[dict[str, Any]]],
    title: str,
    subtitle: str,
    said: str,
    *,
    theme: style.Theme,
    log: bool,
    legend_lines: int,
) -> go.Figure:
    """One panel a metric with its lines."""
    cols = min(_COLUMNS, len(lines))
    rows = -(-len(lines) // cols)
    fig = style.new_figure(
        title,
        subtitle,
        theme=theme,
        rows=rows,
        cols=cols,
        panels=[metric.replace("_", " ") for metric in lines],
        horizontal_spacing=0.085,
        vertical_spacing=min(0.26, 0.5 / rows),
    )
    for i, several in enumerate(lines.values()):
        cell: dict[str, Any] = {"row": i // cols + 1, "col": i % cols + 1}
        positive = log and all(np.nanmin(line["y"], initial=np.inf) > 0 for line in several)
        for j, line in enumerate(several):
            _line(fig, line, j, i == 0, theme, cell)
        style.iteration_axis(fig, max(len(line["y"]) for line in several), "x", max_ticks=6, **cell)
        if positive:
            fig.update_yaxes(type="log", nticks=5, exponentformat="power", **cell)
        fig.update_yaxes(tickfont_size=11, **cell)
    style.caption(fig, said, below=50)
    return give_room(
        fig, _PANEL_PX * rows + 60 * (rows - 1), legend_lines=legend_lines, panel_titles=True
    )


def _variants(result: CorpusAnalysis, metric: str) -> list[dict[str, Any]]:
    lines = []
    for v, variant in enumerate(result.variants):
        line = {
            "name": style.ROLES[_ROLES[variant]],
            "role": _ROLES[variant],
            "y": result.mean[metric][v, 0],
            "low": result.low[metric][v],
            "high": result.high[metric][v],
        }
        if variant == "trained":
            line["q"] = result.quantile[metric][[0, 2], v, 0]
        lines.append(line)
    return lines


def _classes(result: CorpusAnalysis, metric: str) -> list[dict[str, Any]]:
    there = result.count[metric][0].max(-1) > 0
    return [
        {"name": name, "y": result.mean[metric][0, c]}
        for c, name in enumerate(result.classes)
        if c > 0 and there[c]
    ]


def _line(
    fig: go.Figure,
    line: dict[str, Any],
    number: int,
    legend: bool,
    theme: style.Theme,
    cell: dict[str, Any],
) -> None:
    look = style.role(line["role"], theme) if "role" in line else style.series(number, theme)
    k = np.arange(len(line["y"]))
    if "q" in line:
        low, high = line["q"]
        add_band(fig, k, low, high, look["color"], alpha=0.12, **cell)
    if "low" in line:
        add_band(fig, k, line["low"], line["high"], look["color"], alpha=0.35, **cell)
    fig.add_scatter(
        x=k,
        y=line["y"],
        name=line["name"],
        legendgroup=line["name"],
        showlegend=legend,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 5 if len(k) <= 33 else 3},
        hovertemplate=f"<b>{line['name']}</b><br>k = %{{x}}<br>%{{y:.3g}}<extra></extra>",
        **cell,
    )
