"""Fixed points as small multiples of curves, and as a token × iteration grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.bands import add_median
from probes.figures.fixed_point_grid import token_view, verdict_line
from probes.figures.grid import span
from probes.figures.verdict_strip import verdict_strip

if TYPE_CHECKING:
    from probes.fixed_point_result import FixedPoint

Role = Literal["trained", "control", "shuffled"]
VIEWS: dict[str, tuple[str, ...]] = {
    "distances": ("raw", "relative", "norm", "direction", "readout", "limit_direction"),
    "norm": ("norm", "norm_ratio"),
    "limit": ("limit_direction", "limit_readout"),
    "angle": ("angle",),
    "second_order": ("angle", "second_order"),
}
LINEAR = ("angle", "norm_ratio")
_STEPS = (
    *("raw", "raw_largest", "relative", "direction", "one_minus_cos", "readout"),
    *("angle", "second_order"),
)
_LEVELS = (0.1, 0.5, 0.9)
# The control's open squares are larger, so that they show around the trained model's dots.
_SIZES = {"trained": 5, "control": 9, "shuffled": 8}


def draw(result: FixedPoint, *, view: str, theme: style.Theme, **options: Any) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    if view == "tokens":
        return token_view(result, theme=theme, **options)
    if view == "text":
        return verdict_strip(result, theme=theme, **options)
    if view not in VIEWS:
        raise InputError(f"view={view!r}: expected one of tokens, text, {', '.join(VIEWS)}.")
    return curves(result, VIEWS[view], theme=theme, **options)


def curves(
    result: FixedPoint,
    metrics: tuple[str, ...],
    *,
    theme: style.Theme,
    lines: bool = False,
    position: int | None = None,
) -> go.Figure:
    """One panel per metric: median and 10–90% band over tokens, trained and random weights.

    `lines` draws every token of the trained model instead of the band; `position` adds one token of the first
    sequence.
    """
    if position is not None:
        chosen.check(result, position)
    cols = min(3, len(metrics))
    rows = -(-len(metrics) // cols)
    heads = [_head(result.describe(m)) for m in metrics]
    fig = style.new_figure(
        result.title,
        f"{style.subtitle(result, None)}<br>{verdict_line(result)}",
        height=150 + 230 * rows,
        theme=theme,
        rows=rows,
        cols=cols,
        panels=heads,
        horizontal_spacing=0.085,
        vertical_spacing=0.26,
    )
    fig.update_layout(margin_t=120, legend_traceorder="reversed")
    fig.update_annotations(font_size=12)
    for i, metric in enumerate(metrics):
        row, col = i // cols + 1, i % cols + 1
        if result.control is not None:
            _curve(fig, result.control, metric, "control", row, col, i == 0, theme)
        if result.shuffled is not None:
            _curve(fig, result.shuffled, metric, "shuffled", row, col, i == 0, theme)
        if lines:
            _token_lines(fig, result, metric, row, col, theme)
        _curve(fig, result, metric, "trained", row, col, i == 0, theme, band=not lines)
        if position is not None:
            values = result.metric(metric)[:, 0, position]
            shown = values if metric in LINEAR else np.where(values > 0, values, np.nan)
            chosen.line(fig, result, position, shown, theme, row=row, col=col, legend=i == 0)
        _axes(fig, result, metric, row, col, theme)
    return style.caption(fig, _caption(result, metrics, lines), below=50)


def _curve(
    fig: go.Figure,
    result: FixedPoint,
    metric: str,
    role: Role,
    row: int,
    col: int,
    legend: bool,
    theme: style.Theme,
    band: bool = True,
) -> None:
    look, name = style.role(role, theme), style.ROLES[role]
    low, median, high = result.quantiles(metric, _LEVELS)
    k = np.arange(len(median))
    if metric not in LINEAR:
        low, median, high = (np.where(v > 0, v, np.nan) for v in (low, median, high))
    size = _SIZES[role] if len(k) <= 33 else 3
    add_median(
        fig, k, (low, median, high), look, name,
        size=size, group=role, legend=legend, band=band, row=row, col=col,
    )  # fmt: skip
    if metric not in _STEPS:
        _mark_h0(fig, median[0], row, col, theme)


def _mark_h0(fig: go.Figure, level: float, row: int, col: int, theme: style.Theme) -> None:
    marker = {
        "symbol": "circle",
        "size": 9,
        "color": style.palette(theme).paper,
        "line": {"width": 2, "color": style.palette(theme).h0},
    }
    fig.add_scatter(
        x=[0],
        y=[level],
        mode="markers",
        marker=marker,
        hoverinfo="skip",
        showlegend=False,
        row=row,
        col=col,
    )


def _token_lines(
    fig: go.Figure, result: FixedPoint, metric: str, row: int, col: int, theme: style.Theme
) -> None:
    """All tokens in one trace, broken by gaps: hundreds of traces would be slow."""
    values = result.metric(metric)[:, result.valid]
    where = np.argwhere(result.valid).tolist()
    names = [f"<b>{labels.token_label(result.tokens[b][p])}</b> (position {p})" for b, p in where]
    gap = np.full((1, len(names)), np.nan)
    k = np.arange(len(values) + 1.0)
    fig.add_scatter(
        x=np.tile(k, len(names)),
        y=np.concatenate([values, gap]).T.reshape(-1),
        mode="lines",
        line={"color": style.rgba(style.role("trained", theme)["color"], 0.35), "width": 1},
        customdata=np.repeat(names, len(k)),
        hovertemplate="%{customdata}<br>k = %{x}<br>%{y:.3g}<extra></extra>",
        showlegend=False,
        row=row,
        col=col,
    )


def _axes(
    fig: go.Figure, result: FixedPoint, metric: str, row: int, col: int, theme: style.Theme
) -> None:
    cell: dict[str, Any] = {"row": row, "col": col}
    # Six labels still stand apart in a third of a narrow page.
    style.iteration_axis(fig, result.n_iters + 1, "x", max_ticks=6, **cell)
    colors = style.palette(theme)
    fig.update_yaxes(tickfont_size=11, nticks=6, **cell)
    if metric not in LINEAR:
        fig.update_yaxes(**_log_axis(result, metric), **cell)
    middle = result.describe(metric).middle
    if metric == "angle":
        fig.update_yaxes(range=[-1.05, 1.05], **cell)
    if middle is not None:
        fig.add_hline(y=middle, line={"width": 1, "color": colors.line}, **cell)
    if metric == "direction":
        level = result.thresholds["resolution"]
        fig.add_hline(y=level, line={"dash": "dot", "width": 1, "color": colors.muted}, **cell)
        fig.add_annotation(
            text=f"{result.model.dtype} resolution",
            font_size=10,
            x=result.n_iters,
            y=np.log10(level) if level > 0 else 0,
            xanchor="right",
            yanchor="bottom",
            showarrow=False,
            **cell,
        )


def _log_axis(result: FixedPoint, metric: str) -> dict[str, Any]:
    """Whole decades where there are several, else numbers written out."""
    shown = [r.metric(metric) for r in (result, result.control, result.shuffled) if r is not None]
    if metric == "direction":
        shown.append(np.array([result.thresholds["resolution"]]))
    low, high = span([np.log10(v[np.isfinite(v) & (v > 0)]) for v in shown])
    decades = 0.0 if low is None or high is None else high - low
    if decades < 0.8:
        return {"type": "log", "nticks": 5, "tickformat": "~g"}
    if decades < 2:
        return {"type": "log", "dtick": "D2", "tickformat": "~g"}
    return {"type": "log", "dtick": int(np.ceil(decades / 5)), "exponentformat": "power"}


def _head(metric: Any) -> str:
    formula = labels.escape(metric.formula.split(",  ")[0])
    return f"<b>{metric.title}</b><br>{formula}"


def _caption(result: FixedPoint, metrics: tuple[str, ...], lines: bool) -> str:
    text = "Median over tokens" + (
        "; thin lines: tokens." if lines else "; band: 10–90% of tokens."
    )
    if set(metrics) & {"direction", "limit_direction"}:
        text += " u(x) = x/‖x‖."
    if set(metrics) & {"readout", "limit_readout"}:
        text += " N: the final norm, z: what the Tail would read."
    if any(m.startswith("limit") for m in metrics):
        if result.limit_iters:
            text += f" h*: after {result.limit_iters} iterations in {result.limit_dtype}, where the"
            text += f" median direction step is {result.limit_still:.1g}."
        reason = result.limit_reason.rstrip(".") if result.limit_reason else ""
        text += f" Some tokens have none: {reason}." if reason else ""
    if any((result.metric(m) == 0).any() for m in metrics if m not in LINEAR):
        text += " A step of exactly 0 lies below the logarithmic axis."
    if any(m not in _STEPS for m in metrics):
        text += " Open grey marker: h₀, the Head's output."
    return text
