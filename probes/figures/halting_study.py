"""Figures of a study of halting: quality against cost with its references, and depth by class of token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import halting_choice, halting_classes, labels, style
from probes.figures.halting_classes import subtitle
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.study_result import HaltingStudy

VIEWS = ("frontier", "against", "classes", "exits")
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
    """The frontier of `rules` (None: all), or another of VIEWS. Errors: InputError."""
    if view == "against":
        return halting_choice.draw(result, theme)
    if view in ("classes", "exits"):
        drawn = halting_classes.depths if view == "classes" else halting_classes.exits
        return drawn(result, mark or (result.names[0], 0), theme)
    if view != "frontier":
        raise InputError(f"view={view!r}: expected one of {', '.join(VIEWS)}.")
    if x not in COSTS:
        raise InputError(f"x={x!r}: expected one of {', '.join(COSTS)}.")
    return _frontier(result, x, list(result.names if rules is None else rules), mark, theme)


def _frontier(
    result: HaltingStudy, x: str, rules: list[str], mark: tuple[str, int] | None, theme: style.Theme
) -> go.Figure:
    fig = style.new_figure("Quality against cost", subtitle(result), theme=theme)
    live = x == "milliseconds"
    fixed_x = _fixed_cost(result, x)
    fixed = _without_interval(result.live_fixed_nll) if live else result.fixed_nll
    _line(fig, "one depth for all", fixed_x, fixed, look=style.role("h0", theme))
    for number, name in enumerate(rules):
        i = result.index(name)
        oracle = i == len(result.rules) - 1
        if live and oracle:
            continue  # no rule that could be run
        cost = _cost(result, x, i)
        nll = _without_interval(result.live_nll[i]) if live else result.metrics["nll"][i]
        order = np.argsort(cost, kind="stable")
        look = style.series(number, theme)
        title = labels.escape(result.rules[i]["title"]) + (" (bound)" if oracle else "")
        told = np.char.mod("<br>KV-sharing error %.2g nats", result.kv_error[i]) if live else None
        _line(
            fig,
            title,
            cost[order],
            nll[order],
            look=look,
            more=None if told is None else told[order],
        )
        if mark is not None and mark[0] == name:
            at = mark[1]
            marks = [(f"τ = {result.thresholds[i, at]:.3g}", nll[at, 0], "circle-open")]
            if not live:
                randomly = result.metrics["random_nll"][i, at, 0]
                marks.append(("its exits dealt at random", randomly, "x"))
            for label, y, symbol in marks:
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
    about = (
        "Time and NLL of the same live runs, on the first windows; the error of serving fewer keys is in the hover text."
        if live
        else f"{result.formula}. Bars: 95% bootstrap over documents. Oracle: {result.rules[-1]['formula']}, no rule at all."
    )
    style.caption(fig, about)
    return give_room(fig, 320, legend_lines=2 + len(rules) // 4)


def _line(
    fig: go.Figure,
    name: str,
    x: np.ndarray,
    nll: np.ndarray,
    *,
    look: dict,
    more: np.ndarray | None = None,
) -> None:
    y, low, high = nll.T
    fig.add_scatter(
        x=x, y=y, name=name, mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 6},
        error_y={
            "type": "data", "symmetric": False, "array": high - y, "arrayminus": y - low,
            "color": style.rgba(look["color"], 0.4), "thickness": 1, "width": 0,
        },
        customdata=more,
        hovertemplate=f"{name}<br>%{{x:.3g}}, %{{y:.4f}} nats{'' if more is None else '%{customdata}'}<extra></extra>",
    )  # fmt: skip


def _without_interval(nll: np.ndarray) -> np.ndarray:
    return np.stack([nll, np.full_like(nll, np.nan), np.full_like(nll, np.nan)], -1)


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
