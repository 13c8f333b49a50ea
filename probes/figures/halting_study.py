"""Figures of a study of halting: quality against cost with its references, and depth by class of token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.study_result import HaltingStudy

COSTS = {
    "flops": "FLOPs per token, share of full depth",
    "depth": "mean iterations per token",
    "milliseconds": "measured milliseconds per 1,000 tokens",
}


def draw(
    result: HaltingStudy,
    *,
    view: str = "frontier",
    theme: style.Theme = "light",
    x: str = "flops",
    rules: list[str] | None = None,
    mark: tuple[str, int] | None = None,
) -> go.Figure:
    """The frontier of `rules` (None: all), or the classes of tokens at the marked point. Errors: InputError."""
    if view == "classes":
        return _classes(result, mark or (result.names[0], 0), theme)
    if view != "frontier":
        raise InputError(f"view={view!r}: expected 'frontier' or 'classes'.")
    if x not in COSTS:
        raise InputError(f"x={x!r}: expected one of {', '.join(COSTS)}.")
    return _frontier(result, x, list(result.names if rules is None else rules), mark, theme)


def _frontier(
    result: HaltingStudy, x: str, rules: list[str], mark: tuple[str, int] | None, theme: style.Theme
) -> go.Figure:
    fig = style.new_figure("Quality against cost", _subtitle(result), theme=theme)
    fixed_x = _fixed_cost(result, x)
    value, low, high = result.fixed_nll.T
    _line(fig, "one depth for all", fixed_x, value, low, high, look=style.role("h0", theme))
    for number, name in enumerate(rules):
        i = result.index(name)
        cost, nll = _cost(result, x, i), result.metrics["nll"][i]
        order = np.argsort(cost, kind="stable")
        oracle = i == len(result.rules) - 1
        look = style.role("control", theme) if oracle else style.series(number, theme)
        title = labels.escape(result.rules[i]["title"]) + (" (bound)" if oracle else "")
        _line(fig, title, cost[order], *(nll[order, j] for j in range(3)), look=look)
        if mark is not None and mark[0] == name:
            at = mark[1]
            randomly = result.metrics["random_nll"][i, at, 0]
            for label, y, symbol in (
                (f"τ = {result.thresholds[i, at]:.3g}", nll[at, 0], "circle-open"),
                ("its exits dealt at random", randomly, "x"),
            ):
                fig.add_scatter(
                    x=[cost[at]], y=[y], mode="markers", name=label,
                    marker={
                        "symbol": symbol, "size": 14, "color": style.palette(theme).ink,
                        "line": {"width": 2.5},
                    },
                    hovertemplate=f"{label}<br>%{{y:.4f}} nats<extra></extra>",
                )  # fmt: skip
    fig.update_xaxes(title={"text": COSTS[x]}, zeroline=False, rangemode="tozero")
    fig.update_yaxes(title={"text": "NLL of the next token at exit (nats)"})
    style.caption(
        fig,
        f"{result.formula}. Bars: 95% bootstrap over documents. Oracle: {result.rules[-1]['formula']}, no rule at all.",
    )
    return give_room(fig, 320, legend_lines=2 + len(rules) // 4)


def _line(
    fig: go.Figure,
    name: str,
    x: np.ndarray,
    y: np.ndarray,
    low: np.ndarray,
    high: np.ndarray,
    *,
    look: dict,
) -> None:
    fig.add_scatter(
        x=x, y=y, name=name, mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 6},
        error_y={
            "type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low,
            "color": style.rgba(look["color"], 0.4), "thickness": 1, "width": 0,
        },
        hovertemplate=f"{name}<br>%{{x:.3g}}, %{{y:.4f}} nats<extra></extra>",
    )  # fmt: skip


def _fixed_cost(result: HaltingStudy, x: str) -> np.ndarray:
    if x == "depth":
        return np.arange(len(result.fixed_nll)).astype(float)
    if x == "flops":
        return result.fixed_flops / result.fixed_flops[-1]
    return result.fixed_milliseconds


def _cost(result: HaltingStudy, x: str, i: int) -> np.ndarray:
    if x == "milliseconds":
        return result.milliseconds[i]
    found = result.metrics[x][i, :, 0]
    return found / result.fixed_flops[-1] if x == "flops" else found


def _classes(result: HaltingStudy, mark: tuple[str, int], theme: style.Theme) -> go.Figure:
    name, at = mark
    i = result.index(name)
    size, depth = result.by_class["n"][i, at], result.by_class["depth"][i, at]
    shown = np.flatnonzero(size > 0)
    fig = style.new_figure(
        f"Iterations by class of token · {labels.escape(result.rules[i]['title'])} τ = {result.thresholds[i, at]:.3g}",
        _subtitle(result),
        theme=theme,
    )
    fig.add_bar(
        x=[labels.escape(result.classes[c]) for c in shown],
        y=depth[shown],
        marker={"color": style.role("trained", theme)["color"]},
        customdata=[
            f"{labels.escape(result.classes[c])}: {depth[c]:.2f} iterations<br>{size[c]:,.0f} tokens, NLL at exit "
            f"{result.by_class['nll'][i, at, c]:.3f} nats<br>same top token as full depth: "
            f"{result.by_class['agreement'][i, at, c]:.1%}"
            for c in shown
        ],
        hovertemplate="%{customdata}<extra></extra>",
        showlegend=False,
    )
    mean = result.metrics["depth"][i, at, 0]
    fig.add_hline(y=mean, line={"color": style.palette(theme).ink, "dash": "dash", "width": 1.5})
    fig.update_yaxes(title={"text": "mean exit step k"}, range=[0, result.n_iters + 0.2])
    style.caption(fig, f"Mean exit step of each class; dashed: of all tokens, {mean:.2f}.")
    return give_room(fig, 260)


def _subtitle(result: HaltingStudy) -> str:
    return (
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {result.n_tokens:,} tokens of"
        f" {result.n_documents:,} documents"
    )
