"""The traces of trajectories: paths of tokens on a pair of components, and what their captions say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style

if TYPE_CHECKING:
    from probes.trajectory import Trajectories


def draw_paths(
    fig: go.Figure,
    scores: np.ndarray,
    tokens: Sequence[str],
    positions: Sequence[int],
    pair: tuple[int, int],
    theme: style.Theme,
    *,
    row: int,
    col: int,
    bar: bool,
) -> None:
    """One grey line per token, iterations as coloured markers, h_0 as an open grey one."""
    x, y = (scores[:, positions, c] for c in pair)
    gap = np.full((1, len(positions)), np.nan)
    cell: dict[str, Any] = {"row": row, "col": col}
    fig.add_scatter(
        x=np.concatenate([x, gap]).T.reshape(-1),
        y=np.concatenate([y, gap]).T.reshape(-1),
        mode="lines",
        line={"color": style.palette(theme).line, "width": 1},
        hoverinfo="skip",
        **cell,
    )
    names = [f"<b>{labels.token_label(tokens[p])}</b>  (position {p})" for p in positions]
    hover = "%{customdata}<br>%{x:.3g}, %{y:.3g}<extra></extra>"
    h0 = style.role("h0", theme)
    k = np.arange(1, len(scores))
    colors = style.iteration_colors(16, theme)
    fig.add_scatter(
        x=x[1:].reshape(-1),
        y=y[1:].reshape(-1),
        mode="markers",
        marker={
            "color": np.repeat(k, len(positions)),
            "colorscale": [[i / 15, color] for i, color in enumerate(colors)],
            "cmin": 1,
            "cmax": max(len(scores) - 1, 2),
            "size": 5,
            "showscale": bar,
            "colorbar": {
                "title": {"text": "iteration k", "side": "right"},
                # Iterations are whole, also where there are few.
                "dtick": 1 if len(scores) < 8 else None,
            },
        },
        customdata=[f"{name}<br>iteration {i}" for i in k for name in names],
        hovertemplate=hover,
        **cell,
    )
    fig.add_scatter(
        x=x[0],
        y=y[0],
        mode="markers",
        marker={"symbol": h0["symbol"], "color": h0["color"], "size": 7, "line": {"width": 1.5}},
        customdata=[f"{name}<br>h₀" for name in names],
        hovertemplate=hover,
        **cell,
    )


def draw_bold(
    fig: go.Figure,
    scores: np.ndarray,
    pair: tuple[int, int],
    theme: style.Theme,
    *,
    row: int,
    col: int,
) -> None:
    """One token's path [iteration, component] over the others."""
    fig.add_scatter(
        x=scores[:, pair[0]],
        y=scores[:, pair[1]],
        mode="lines",
        line={"color": style.palette(theme).control, "width": 2.5},
        hoverinfo="skip",
        row=row,
        col=col,
    )


def component_name(result: Trajectories, c: int) -> str:
    """ "PC 1 (43.2%)", with the share of variance."""
    return f"PC {c + 1} ({100 * result.explained[c]:.1f}%)"


def reach_of(values: np.ndarray) -> float:
    """Half the side of a square around 0 that holds all values."""
    finite = np.abs(values[np.isfinite(values)])
    return 1.08 * float(finite.max(initial=0)) or 1.0


def caption_text(result: Trajectories, shown: str, marker: bool = True) -> str:
    """What is shown, of which states, and how much of the variance the components hold."""
    what = "directions u(hₖ) = hₖ/‖hₖ‖" if result.unit else "states hₖ"
    total = 100 * result.explained.sum()
    text = f"{shown}. PCA of all {what}, every token and iteration 0…{result.n_iters} together; "
    text += f"{result.n_components} components hold {total:.1f}% of the variance."
    return text + (" Open grey marker: h₀, the Head's output." if marker else "")
