"""The phase portrait: every token's way over a plane of components, arrow by arrow, played over the iterations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.path_traces import caption_text, component_name, reach_of

if TYPE_CHECKING:
    from probes.trajectory import Trajectories

_CONTROLS_PX = 74


def phase(
    result: Trajectories,
    *,
    theme: style.Theme,
    batch: int = 0,
    position: int | None = None,
    pair: tuple[int, int] = (1, 2),
    frame_ms: int = 350,
) -> go.Figure:
    """Arrows from h_k to h_{k+1} on one plane, of all tokens or of that at `position`; a slider and a play button.

    The figure itself shows the whole way; frame k shows it up to iteration k. The axes never move.
    """
    a, b = (c - 1 for c in pair)
    if not all(0 <= c < result.n_components for c in (a, b)):
        raise InputError(f"pair={pair}: the result has components 1 to {result.n_components}.")
    there = np.flatnonzero(result.valid[batch]).tolist()
    if position is not None and position not in there:
        raise InputError(f"position={position}: tokens stand at {there[0]} to {there[-1]}.")
    shown = there if position is None else [position]
    # [iteration, token, 2]
    path = result.scores[:, batch, shown][..., [a, b]]
    names = [f"<b>{labels.token_label(result.tokens[batch][p])}</b>  (position {p})" for p in shown]
    texts = [labels.token_label(result.tokens[batch][p], 10) for p in shown]
    n = len(path) - 1
    fig = style.new_figure("Phase portrait", style.subtitle(result, batch), height=590, theme=theme)
    fig.add_traces(_traces(path, names, texts, n, theme))
    fig.frames = [
        go.Frame(data=_traces(path, names, texts, k, theme), name=str(k), traces=[0, 1, 2])
        for k in range(n + 1)
    ]
    middle = [float((np.nanmin(path[..., c]) + np.nanmax(path[..., c])) / 2) for c in (0, 1)]
    for update, c, component in ((fig.update_xaxes, 0, a), (fig.update_yaxes, 1, b)):
        reach = reach_of(path[..., c] - middle[c])
        update(
            title_text=component_name(result, component),
            range=[middle[c] - 1.1 * reach, middle[c] + 1.1 * reach],
            nticks=6,
            tickangle=0,
        )
    # Plain: the caption escapes what it is given.
    text = "Every token" if position is None else labels.visible(result.tokens[batch][position])
    style.caption(
        fig, caption_text(result, f"{text}, an arrow an iteration"), below=50 + _CONTROLS_PX
    )
    fig.update_layout(showlegend=False, **_controls(n, frame_ms, theme))
    return fig


def _traces(
    path: np.ndarray, names: list[str], texts: list[str], last: int, theme: style.Theme
) -> list[Any]:
    """Arrows up to iteration `last`, h_0, and where each token is then; always three, so that frames fit."""
    colors = style.palette(theme)
    done = path[: last + 1]
    n, m = done.shape[:2]
    # One trace for all tokens, parted by gaps: a trace a token would be slow.
    gap = np.full((1, m), np.nan)
    x, y = (np.concatenate([done[..., c], gap]).T.reshape(-1) for c in (0, 1))
    k = np.tile(np.arange(n + 1), m)
    scale = style.iteration_colors(16, theme)
    size = np.where((k > 0) & (k < n), 9, 0)
    hover = "%{customdata}<br>%{x:.3g}, %{y:.3g}<extra></extra>"
    arrows = go.Scatter(
        x=x,
        y=y,
        mode="lines+markers",
        line={"color": colors.line, "width": 1},
        marker={
            "symbol": "arrow",
            "angleref": "previous",
            "size": size,
            "color": k,
            "colorscale": [[i / 15, color] for i, color in enumerate(scale)],
            "cmin": 1,
            "cmax": max(len(path) - 1, 2),
            "showscale": True,
            "colorbar": {
                "title": {"text": "iteration k", "side": "right"},
                "dtick": 1 if len(path) < 8 else None,
            },
        },
        customdata=[f"{name}<br>iteration {i}" for name in names for i in range(n + 1)],
        hovertemplate=hover,
    )
    h0 = style.role("h0", theme)
    start = go.Scatter(
        x=path[0, :, 0],
        y=path[0, :, 1],
        mode="markers",
        marker={"symbol": h0["symbol"], "color": h0["color"], "size": 8, "line": {"width": 1.5}},
        customdata=[f"{name}<br>h₀" for name in names],
        hovertemplate=hover,
    )
    now = go.Scatter(
        x=done[-1, :, 0],
        y=done[-1, :, 1],
        mode="text" if m <= 24 else "markers",
        text=texts,
        textposition="top center",
        textfont={"family": style.MONO, "size": 10, "color": colors.ink},
        marker={"size": 4, "color": colors.ink},
        customdata=[f"{name}<br>iteration {last}" for name in names],
        hovertemplate=hover,
    )
    return [arrows, start, now]


def _controls(n: int, frame_ms: int, theme: style.Theme) -> dict[str, Any]:
    """Slider over the iterations, play and pause, under the x axis."""
    colors = style.palette(theme)

    def to(frames: list[str] | None, duration: int) -> list[Any]:
        settings = {
            "mode": "immediate", "fromcurrent": True, "transition": {"duration": 0},
            "frame": {"duration": duration, "redraw": False},
        }  # fmt: skip
        return [frames, settings]

    look = {"bgcolor": colors.paper, "bordercolor": colors.line, "font": {"color": colors.ink}}
    buttons = [
        {"label": "▶", "method": "animate", "args": to(None, frame_ms)},
        {"label": "❚❚", "method": "animate", "args": [[None], to(None, 0)[1]]},
    ]
    play = {
        "type": "buttons", "direction": "right", "showactive": False, "buttons": buttons,
        "x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": 62, "r": 8}, **look,
    }  # fmt: skip
    steps = [{"label": str(k), "method": "animate", "args": to([str(k)], 0)} for k in range(n + 1)]
    slider = {
        "active": n, "steps": steps, "x": 0.24, "len": 0.76, "y": 0, "yanchor": "top",
        "pad": {"t": 48}, "currentvalue": {"visible": False}, "bgcolor": colors.grid,
        "bordercolor": colors.line, "tickcolor": colors.line, "font": {"color": colors.ink, "size": 11},
    }  # fmt: skip
    return {"updatemenus": [play], "sliders": [slider]}
