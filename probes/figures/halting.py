"""Figures of halting: exit maps, histograms of exit steps, and depth against quality."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.grid import token_grid
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.early_exit.outcome import HaltingOutcome, HaltingSweep

COSTS = {"steps": "mean steps per token", "flops": "FLOPs per token, share of full depth"}
METRICS = {"agreement": "agreement with full depth", "nll": "NLL of the next token at exit (nats)"}


def outcome(result: HaltingOutcome, *, view: str, batch: int, theme: Any) -> go.Figure:
    """The exit map of one sequence, or the histogram of exit steps over all."""
    if view == "histogram":
        return _histogram(result, theme)
    if view != "map":
        raise InputError(f"view={view!r}: expected 'map' or 'histogram'.")
    chosen.sequence(result, batch)
    return _map(result, batch, theme)


def _map(result: HaltingOutcome, batch: int, theme: Any) -> go.Figure:
    keep = result.exit_step[batch] >= 0
    tokens = [t for t, real in zip(result.tokens[batch], keep, strict=True) if real]
    values = result.values[:, batch, keep]
    exits = result.exit_step[batch, keep]
    fig = style.new_figure(
        f"Exit map · {_title(result.rule)} {_threshold(result)}",
        style.subtitle(result, batch),
        theme=theme,
    )
    log = result.rule["stops"] == "below"
    below = token_grid(
        fig,
        values,
        tokens,
        name=f"{_title(result.rule)} ({labels.escape(result.rule['unit'])})",
        log=log,
        theme=theme,
    )
    after = np.arange(len(values))[:, None] > exits[None]
    paper = style.rgba(style.palette(theme).paper, 0.72)
    fig.add_heatmap(
        z=np.where(after, 1.0, np.nan),
        x=np.arange(len(tokens)),
        y=np.arange(len(values)),
        colorscale=[[0, paper], [1, paper]],
        showscale=False,
        hoverinfo="skip",
        xgap=1,
        ygap=1,
    )
    _exit_markers(fig, result, batch, keep, tokens, theme)
    text = f"{result.rule['formula']}, {_numbers(result)}. Veiled cells are iterations that the token is spared."
    style.caption(fig, text, below=below)
    # Plotly leaves out a legend of one entry, but the reader needs it as much.
    fig.update_layout(showlegend=True)
    return give_room(fig, 24 * max(5, len(values)), legend_lines=1)


def _exit_markers(
    fig: go.Figure,
    result: HaltingOutcome,
    batch: int,
    keep: np.ndarray,
    tokens: list[str],
    theme: Any,
) -> None:
    positions = np.flatnonzero(keep)
    exits = result.exit_step[batch, keep]
    agrees = result.agrees[exits, batch, positions]
    fired = result.fired[batch, keep]
    colors = style.palette(theme)
    kinds = {
        "exit, same top token as full depth": (fired & (agrees == 1), "circle"),
        "exit, another top token": (fired & (agrees == 0), "x"),
        "never fired: full depth": (~fired & ~np.isnan(agrees), "triangle-up"),
        "diverged": (np.isnan(agrees), "cross"),
    }
    for name, (here, symbol) in kinds.items():
        if not here.any():
            continue
        where = np.flatnonzero(here)
        fig.add_scatter(
            x=where,
            y=exits[where],
            mode="markers",
            name=name,
            marker={
                "symbol": symbol,
                "size": 9,
                "color": colors.paper,
                "line": {"color": colors.ink, "width": 1.5},
            },
            customdata=[
                f"<b>{labels.token_label(tokens[p])}</b>  (position {p})<br>{name}"
                f"<br>k = {exits[p]}<br>NLL at exit {_number(result.nll_exit[batch, positions[p]])},"
                f" at full depth {_number(result.nll_full[batch, positions[p]])} nats"
                for p in where
            ],
            hovertemplate="%{customdata}<extra></extra>",
        )


def _histogram(result: HaltingOutcome, theme: Any) -> go.Figure:
    fig = style.new_figure(
        f"Exit steps · {_title(result.rule)} {_threshold(result)}",
        style.subtitle(result, None),
        theme=theme,
    )
    look = style.role("trained", theme)
    fig.add_bar(
        x=np.arange(len(result.histogram)),
        y=result.histogram,
        marker={"color": look["color"]},
        hovertemplate="k = %{x}: %{y} tokens<extra></extra>",
        showlegend=False,
    )
    if np.isfinite(result.mean_steps):
        mean = f"mean {result.mean_steps:.2f}"
        side = "right" if result.mean_steps > result.n_iters / 2 else "left"
        fig.add_vline(
            x=result.mean_steps,
            line={"color": style.palette(theme).ink, "dash": "dash", "width": 1.5},
            annotation={"text": mean, "yanchor": "bottom", "y": 1, "xanchor": side},
        )
    style.iteration_axis(fig, len(result.histogram), title="exit step k")
    fig.update_yaxes(title={"text": "tokens"}, rangemode="tozero")
    never = f"; {result.n_never_fired} never fired and ran to r" if result.n_never_fired else ""
    style.caption(fig, f"{result.rule['formula']}, {_numbers(result)}{never}.")
    # A line of its own for the mean above the bars.
    return give_room(fig, 220, panel_titles=True)


def sweep(
    result: HaltingSweep, *, metric: str, x: str, threshold: float | None, theme: Any
) -> go.Figure:
    """Quality against mean steps: the rule over its thresholds, random exits and fixed depths."""
    if metric not in METRICS:
        raise InputError(f"metric={metric!r}: expected one of {', '.join(METRICS)}.")
    if x not in COSTS:
        raise InputError(f"x={x!r}: expected one of {', '.join(COSTS)}.")
    if x == "flops" and not len(result.flops):
        raise InputError("x='flops': no FLOPs were given for this sweep; expected 'steps'.")
    depth = np.arange(len(result.fixed_nll), dtype=float)
    steps = result.mean_steps if metric == "agreement" else result.mean_steps_scored
    cheap, best = steps, result.oracle_steps
    if x == "flops":
        best = np.interp(best, depth, result.fixed_flops)
        steps, cheap, depth = result.flops, result.random_flops, result.fixed_flops
    rule, random = getattr(result, metric), getattr(result, f"random_{metric}")
    spread = 1.96 * getattr(result, f"random_{metric}_sd")
    fig = style.new_figure(
        f"{'Depth' if x == 'steps' else 'FLOPs'} against {'agreement' if metric == 'agreement' else 'NLL'} · {_title(result.rule)}",
        style.subtitle(result, None),
        theme=theme,
    )
    looks = [style.series(0, theme), style.series(1, theme), style.role("h0", theme)]
    fig.add_scatter(
        x=np.concatenate([cheap, cheap[::-1]]),
        y=np.concatenate([random + spread, (random - spread)[::-1]]),
        fill="toself",
        fillcolor=style.rgba(looks[1]["color"], 0.15),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )
    curves = [
        ("fixed depth", depth, getattr(result, f"fixed_{metric}"), looks[2], None),
        ("random exits of equal depth", cheap, random, looks[1], result.thresholds),
        (_title(result.rule), steps, rule, looks[0], result.thresholds),
    ]
    if metric == "nll" and len(result.oracle_nll):
        look = style.series(4, theme)
        curves.append(("oracle (bound)", best, result.oracle_nll, look, None))
    unit = "steps" if x == "steps" else "of full depth's FLOPs"
    for name, cost, y, look, levels in curves:
        at = "" if levels is None else "<br>threshold %{customdata:.3g}"
        fig.add_scatter(
            x=cost,
            y=y,
            name=name,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": 6},
            customdata=levels,
            hovertemplate=f"{name}<br>%{{x:.2f}} {unit}, %{{y:.4g}}{at}<extra></extra>",
        )
    if threshold is not None and len(result.thresholds):
        i = int(np.abs(result.thresholds - threshold).argmin())
        fig.add_scatter(
            x=[steps[i]],
            y=[rule[i]],
            mode="markers",
            name=f"threshold {result.thresholds[i]:.3g}",
            marker={
                "symbol": "circle-open", "size": 15, "color": style.palette(theme).ink, "line": {"width": 2.5},
            },
            hoverinfo="skip",
        )  # fmt: skip
    fig.update_xaxes(
        title={"text": COSTS[x]},
        range=[-0.3, result.n_iters + 0.3] if x == "steps" else None,
        zeroline=False,
    )
    fig.update_yaxes(title={"text": METRICS[metric]})
    text = (
        f"{result.rule['formula']}. Random: the same exit steps dealt to the tokens at random, exact"
        " mean ± 1.96 standard deviations. Fixed: every token exits at k."
    )
    if x == "flops":
        text += " FLOPs: the rule's own looks counted; random and oracle do not look."
    style.caption(fig, text)
    return give_room(fig, 290, legend_lines=1)


def _title(rule: dict[str, Any]) -> str:
    return labels.escape(rule["title"])


def _threshold(result: HaltingOutcome) -> str:
    sign = "≥" if result.rule["stops"] == "at_least" else "<"
    return f"{sign} {result.threshold:.3g}"


def _numbers(result: HaltingOutcome) -> str:
    return (
        f"τ = {result.threshold:.3g} {result.rule['unit']}, k_min = {result.min_iters}: mean steps"
        f" {_number(result.mean_steps)} of {result.n_iters}, agreement {_number(result.agreement)}"
    )


def _number(value: float) -> str:
    return f"{value:.3g}" if np.isfinite(value) else "undefined"
