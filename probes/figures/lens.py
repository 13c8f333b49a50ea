"""Figures of lenses: the token × iteration grid of predictions, and rank trajectories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.grid import token_grid
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.lenses.result import Lens

METRICS = {
    "probability": ("probability of the top token", False),
    "entropy": ("entropy (nats)", False),
    "nll": ("NLL of the next token (nats)", False),
    "target_rank": ("rank of the {target}", True),
    "final_rank": ("rank of the final prediction", True),
    "kl_to_final": ("KL(p_r ‖ p_k) (nats)", True),
}
_CELL_PX, _LOW_CELL_PX, _CHAR_PX, _BESIDE_PX, _LEAST_CHARS = 26, 16, 5.5, 185, 3
"""Height of a cell, of one among many, width of a character in it, width of what stands beside the plot."""
_FONT_PX = 9
_RANKS = ("target_rank", "final_rank", "random_rank")


def grid(
    lens: Lens, *, metric: str, batch: int, selectable: bool, width: int, theme: Any
) -> go.Figure:
    """Token × iteration, coloured by `metric`, the top token in each cell, the top-k on hover."""
    if metric not in METRICS:
        raise InputError(f"metric={metric!r}: expected one of {', '.join(METRICS)}.")
    _check_batch(lens, batch)
    tokens = [t for t, real in zip(lens.tokens[batch], lens.valid[batch], strict=True) if real]
    keep = lens.valid[batch]
    source = lens.top_probabilities[..., 0] if metric == "probability" else getattr(lens, metric)
    values = source[:, batch, keep]
    name, log = METRICS[metric]
    fig = style.new_figure(lens.label, style.subtitle(lens, batch), theme=theme)
    below = token_grid(
        fig,
        values,
        tokens,
        name=name.format(target=labels.escape(lens.target_name)),
        log=log,
        limits=(0.0, 1.0) if metric == "probability" else None,
        text=_cell_texts(lens, batch, keep, width),
        hover=_hover(lens, batch, keep),
        rows=lens.names if lens.blocks else None,
        theme=theme,
    )
    if selectable:
        _overlay(fig, len(values), len(tokens))
    fig.update_traces(textfont_size=_FONT_PX, selector={"type": "heatmap"})
    between = " Between two k: the blocks of iteration k, in order." if lens.blocks else ""
    style.caption(
        fig, f"{_formula(lens)}. k = 0 is the Head's output.{between}{_made(lens)}", below=below
    )
    return give_room(fig, (_CELL_PX if len(values) <= 24 else _LOW_CELL_PX) * max(5, len(values)))


def ranks(lens: Lens, *, batch: int, position: int | None, theme: Any) -> go.Figure:
    """Rank of target, final prediction and random control against k, on a log axis, best on top.

    One position, or the median over all positions with the band from quartile to quartile.
    """
    _check_batch(lens, batch)
    n = int(lens.valid[batch].sum())
    if position is not None and not 0 <= position < n:
        raise InputError(f"position={position}: expected 0 to {n - 1}.")
    where = "" if position is None else f" after {_token_at(lens, batch, position)}"
    fig = style.new_figure(f"Ranks{where} · {lens.label}", style.subtitle(lens, batch), theme=theme)
    k = lens.depths
    is_readout = np.isin(np.arange(len(k)), lens.readouts)
    names = {
        "target_rank": labels.escape(lens.target_name),
        "final_rank": "final prediction",
        "random_rank": "random token",
    }
    looks = {
        "target_rank": style.series(0, theme),
        "final_rank": style.series(2, theme),
        "random_rank": {**style.role("h0", theme), "symbol": "x"},
    }
    for field in _RANKS:
        look, name = looks[field], names[field]
        if position is None:
            low, middle, high = lens.rank_quartiles(field, batch).T
            _band(fig, k, low, high, look["color"])
        else:
            middle = getattr(lens, field)[:, batch, position]
            name += _of(lens, field, batch, position)
        fig.add_scatter(
            x=k,
            y=middle,
            name=name,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": np.where(is_readout, 7, 4)},
            customdata=[labels.escape(row) for row in lens.names],
            hovertemplate=f"{name}<br>k = %{{customdata}}, rank %{{y}}<extra></extra>",
        )
    style.iteration_axis(fig, lens.n_iters + 1)
    fig.update_xaxes(range=[min(-0.5, k[0] - 0.2), max(lens.n_iters + 0.5, k[-1] + 0.2)])
    fig.update_yaxes(
        type="log",
        autorange="reversed",
        dtick=1,
        title={"text": "rank (1 = most probable)"},
    )
    shown = "Median over positions, bands from quartile to quartile. " if position is None else ""
    text = (
        f"{_formula(lens)}. {shown}Rank = 1 + tokens with a larger logit. Control: a token drawn at"
        f" random for each position.{_made(lens)}"
    )
    style.caption(fig, text)
    return give_room(fig, 280, legend_lines=1)


def _band(fig: go.Figure, k: np.ndarray, low: np.ndarray, high: np.ndarray, color: str) -> None:
    fig.add_scatter(
        x=np.concatenate([k, k[::-1]]),
        y=np.concatenate([high, low[::-1]]),
        fill="toself",
        fillcolor=style.rgba(color, 0.15),
        line={"width": 0},
        mode="lines",
        hoverinfo="skip",
        showlegend=False,
    )


def _token_at(lens: Lens, batch: int, position: int) -> str:
    return f"{labels.token_label(lens.tokens[batch][position])} (position {position})"


def _of(lens: Lens, field: str, batch: int, position: int) -> str:
    ids = {
        "target_rank": lens.target_ids,
        "final_rank": lens.final_ids,
        "random_rank": lens.random_ids,
    }[field][batch, position]
    return f" {labels.token_label(lens.token(ids))}" if ids >= 0 else " (none)"


def _cell_texts(lens: Lens, batch: int, keep: np.ndarray, width: int) -> list[list[str]] | None:
    """Top tokens, cut to the width of a cell; None where no text would be legible."""
    ids = lens.top_ids[:, batch, keep, 0]
    chars = int(((width - _BESIDE_PX) / ids.shape[1] - 2) / _CHAR_PX)
    if chars < _LEAST_CHARS:
        return None
    # Cut without an ellipsis: of three characters it would take one.
    show = lambda i: labels.escape(labels.visible(lens.token(i))[:chars]) if i >= 0 else ""  # noqa: E731
    return [[show(i) for i in row] for row in ids]


def _hover(lens: Lens, batch: int, keep: np.ndarray) -> list[list[str]]:
    positions = np.flatnonzero(keep).tolist()
    return [[_cell_hover(lens, k, batch, p) for p in positions] for k in range(len(lens.addresses))]


def _cell_hover(lens: Lens, k: int, batch: int, position: int) -> str:
    cell = (k, batch, position)
    if np.isnan(lens.entropy[cell]):
        return "diverged: no finite prediction"
    target = lens.target_ids[batch, position]
    lines = [
        f"{p:7.2%}  {labels.token_label(lens.token(i))}"
        for i, p in zip(lens.top_ids[cell], lens.top_probabilities[cell], strict=True)
    ]
    lines.append(f"entropy {lens.entropy[cell]:.3g} nats")
    if target >= 0:
        name = f"{labels.escape(lens.target_name)} {labels.token_label(lens.token(target))}"
        lines.append(f"{name}: rank {lens.target_rank[cell]:.0f}")
    return "<br>".join(lines)


def _overlay(fig: go.Figure, n_rows: int, n_tokens: int) -> None:
    """Invisible markers over the cells: a heatmap's own cells cannot be selected.

    They carry the cells' hover text: whatever catches the click also catches the pointer.
    """
    cells: Any = fig.data[0]
    y, x = np.indices((n_rows, n_tokens)).reshape(2, -1)
    fig.add_scatter(
        x=x,
        y=y,
        mode="markers",
        marker={"symbol": "square", "size": max(6, 600 // n_tokens), "opacity": 0},
        customdata=np.stack([y, x], 1),
        text=np.asarray(cells.customdata, dtype=object).ravel(),
        hovertemplate="%{text}<extra></extra>",
        name="cells",
        showlegend=False,
    )


def _formula(lens: Lens) -> str:
    from probes.lenses.result import KINDS

    return KINDS[lens.kind][1]


def _made(lens: Lens) -> str:
    return f" {lens.fitted}." if lens.fitted else ""


def _check_batch(lens: Lens, batch: int) -> None:
    if not 0 <= batch < len(lens.tokens):
        raise InputError(f"batch={batch}: expected 0 to {len(lens.tokens) - 1}.")
