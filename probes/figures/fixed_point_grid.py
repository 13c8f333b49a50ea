"""One metric of the fixed points over token × iteration, trained above random weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import chosen, style
from probes.figures.grid import span, token_grid

if TYPE_CHECKING:
    from probes.fixed_point_result import FixedPoint

SIGNED = ("angle",)
"""Metrics that no logarithm can be taken of."""


def token_view(
    result: FixedPoint,
    *,
    theme: style.Theme,
    metric: str = "direction",
    batch: int = 0,
    position: int | None = None,
) -> go.Figure:
    """One metric over token × iteration, trained above random weights on one colour scale; `position` is framed."""
    about = result.describe(metric)
    chosen.sequence(result, batch)
    shown = {style.ROLES["trained"]: result}
    if result.control is not None:
        shown[style.ROLES["control"]] = result.control
    keep = result.valid[batch]
    tokens = [t for t, k in zip(result.tokens[batch], keep, strict=True) if k]
    grids = [r.metric(metric)[:, batch, keep] for r in shown.values()]
    limits = _shared_limits(grids, about.middle, metric not in SIGNED)
    rows = len(shown)
    fig = style.new_figure(
        about.title.capitalize(),
        f"{style.subtitle(result, batch)}<br>{verdict_line(result)}",
        height=190 + rows * max(150, min(260, 15 * len(grids[0]))),
        theme=theme,
        rows=rows,
        cols=1,
        panels=list(shown) if rows > 1 else None,
        vertical_spacing=0.12,
        shared_xaxes=True,
    )
    below = 0
    for i, (shown_result, values) in enumerate(zip(shown.values(), grids, strict=True)):
        verdicts = shown_result.verdict[batch, keep]
        below = token_grid(
            fig,
            values,
            tokens,
            name=about.title,
            log=metric not in SIGNED,
            middle=about.middle,
            limits=limits,
            hover=[[f"verdict: {v}" for v in verdicts]] * len(values),
            row=i + 1 if rows > 1 else None,
            col=1 if rows > 1 else None,
            apart=len(values) > result.n_iters,
            theme=theme,
            showscale=i == 0,
            colorbar={"len": 1.0, "y": 0.5},
        )
        if position is not None:
            chosen.column(
                fig, result, position, theme, batch=batch, row=i + 1 if rows > 1 else None
            )
        if i + 1 < rows:
            fig.update_xaxes(showticklabels=False, title_text="", row=i + 1, col=1)
    fig.update_layout(margin_t=116)
    text = about.formula
    if metric not in SIGNED and any((g == 0).any() for g in grids):
        text += ". Grey cells: exactly 0"
    if any(np.isnan(g).any() for g in grids):
        text += ". Blank cells: undefined"
    return style.caption(fig, text, below=below)


def verdict_line(result: FixedPoint) -> str:
    parts = [f"trained: {_counted(result)}"]
    if result.control is not None:
        parts.append(f"random: {_counted(result.control)}")
    if result.shuffled is not None:
        parts.append(f"shuffled text: {_counted(result.shuffled)}")
    return "verdict on the direction — " + "; ".join(parts)


def _counted(result: FixedPoint) -> str:
    counts = result.counts()
    total = sum(counts.values())
    return ", ".join(f"{verdict} {n}/{total}" for verdict, n in counts.items())


def _shared_limits(
    grids: list[np.ndarray], middle: float | None, log: bool
) -> tuple[float, float] | None:
    """Trained and control share one colour scale."""
    if not log:
        low, high = span(grids, middle)
        return None if low is None or high is None else (low, high)
    logs = [np.log10(g[np.isfinite(g) & (g > 0)]) for g in grids]
    low, high = span(logs, None if middle is None else np.log10(middle))
    return None if low is None or high is None else (10**low, 10**high)
