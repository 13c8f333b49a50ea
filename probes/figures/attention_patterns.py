"""Attention patterns themselves: head × iteration as small multiples, and one with tokens on both axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.attention import Attention

MAX_ROWS, MAX_COLS = 8, 8
_HALF = 48
"""Characters of a caption's line: both figures stand side by side on a page."""


def patterns(
    result: Attention, *, theme: style.Theme, block: int = 0, heads: list[int] | None = None
) -> go.Figure:
    """One block's patterns, iterations upward and heads across; at most 8 × 8, iterations evenly chosen."""
    _kept(result, block=block)
    n_rows, _, n_heads = result.pattern.shape[:3]
    chosen = list(range(min(n_heads, MAX_COLS))) if heads is None else list(heads)[:MAX_COLS]
    for head in chosen:
        _kept(result, head=head)
    shown = np.unique(np.linspace(0, n_rows - 1, min(n_rows, MAX_ROWS)).round().astype(int))[::-1]
    keep = result.valid[0]
    fig = style.new_figure(
        f"Attention patterns of {_name(result, block)}",
        style.subtitle(result),
        theme=theme,
        rows=len(shown),
        cols=len(chosen),
        horizontal_spacing=0.008,
        vertical_spacing=0.012,
        column_titles=[f"head {head}" for head in chosen],
    )
    # One scale, and the root of the mass: a sink would leave all else dark.
    for row, k in enumerate(shown.tolist(), 1):
        for col, head in enumerate(chosen, 1):
            fig.add_heatmap(
                z=np.sqrt(_shown(result, k, block, head)[keep][:, keep]),
                zmin=0,
                zmax=1,
                colorscale=style.SEQUENTIAL,
                showscale=row == col == 1,
                colorbar=_bar(),
                hovertemplate=f"iteration {k}, head {head}<br>query %{{y}}, key %{{x}}<extra></extra>",
                row=row,
                col=col,
            )
        fig.update_yaxes(title_text=f"k = {k}", title_standoff=4, row=row, col=1)
    fig.update_xaxes(visible=False)
    fig.update_yaxes(autorange="reversed", showticklabels=False, showgrid=False, zeroline=False)
    text = "Query downward, key across, in each; blank: not seen. Colour by the root of the mass."
    style.caption(fig, text, below=20, width=_HALF)
    return give_room(fig, min(78 * len(shown), 620), panel_titles=True)


def pattern(
    result: Attention,
    *,
    theme: style.Theme,
    iteration: int = -1,
    block: int = 0,
    head: int = 0,
    position: int | None = None,
) -> go.Figure:
    """One pattern with tokens on both axes; what the token at `position` asks, and who asks it, are framed."""
    _kept(result, iteration=iteration, block=block, head=head)
    keep = result.valid[0]
    tokens = [t for t, k in zip(result.tokens[0], keep, strict=True) if k]
    mass = _shown(result, iteration, block, head)[keep][:, keep]
    k = range(len(result.pattern))[iteration]
    fig = style.new_figure(
        f"{_name(result, block)}, head {head}, iteration {k}", style.subtitle(result), theme=theme
    )
    names = [labels.token_label(t) for t in tokens]
    fig.add_heatmap(
        z=np.sqrt(mass),
        zmin=0,
        zmax=1,
        colorscale=style.SEQUENTIAL,
        colorbar=_bar(),
        customdata=[
            [f"query <b>{q}</b><br>key <b>{key}</b><br>mass {m:.4f}" for key, m in zip(names, row, strict=True)]
            for q, row in zip(names, mass, strict=True)
        ],
        hovertemplate="%{customdata}<extra></extra>",
    )  # fmt: skip
    if position is not None:
        chosen.column(fig, result, position, theme)
        chosen.row_of(fig, result, position, theme)
    below = style.token_axis(fig, tokens, "x", title="key")
    style.token_axis(fig, tokens, "y", title="query")
    fig.update_yaxes(range=[len(tokens) - 0.5, -0.5])
    fig.update_layout(margin_l=48 + 7 * max(len(labels.visible(t, 14)) for t in tokens))
    style.caption(fig, "Blank: not seen. Colour by the root of the mass.", below=below, width=_HALF)
    # The labels of the queries are wide: the title begins above them.
    fig.update_layout(title={"x": 0.02, "xref": "container"})
    return give_room(fig, int(np.clip(16 * len(tokens), 260, 620)))


def _shown(result: Attention, k: int, block: int, head: int) -> np.ndarray:
    mass = result.pattern[k, block, head].astype(float)
    seen = np.tril(np.ones_like(mass, bool))
    return np.where(seen, mass, np.nan)


def _bar() -> dict[str, Any]:
    ticks = [0, 0.01, 0.1, 0.25, 0.5, 1]
    return {
        "title": {"text": "mass", "side": "right"},
        "tickvals": np.sqrt(ticks),
        "ticktext": [f"{t:g}" for t in ticks],
    }


def _name(result: Attention, block: int) -> str:
    return result.sites[block].removesuffix(".attn.hook_pattern")


def _kept(result: Attention, **wanted: int) -> None:
    """Errors: InputError where patterns were not kept, or for an iteration, block or head that is not there."""
    if not len(result.pattern):
        raise InputError("view: the patterns were not kept; ask for them with patterns=True.")
    axes = ("iteration", "block", "head")
    sizes: dict[str, int] = dict(zip(axes, result.pattern.shape, strict=False))
    for name, value in wanted.items():
        if not -sizes[name] * (name == "iteration") <= value < sizes[name]:
            raise InputError(f"{name}={value}: the result has 0 to {sizes[name] - 1}.")
