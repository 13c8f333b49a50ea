"""Figure of patching scores over token × iteration: exact, the control's, and by gradients, one above the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.grid import span, token_grid
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.interventions.patching_result import Patching

KINDS = {
    "score": "patched, exact",
    "control": "control: values of a third prompt",
    "attribution": "by gradients",
}


def draw(
    result: Patching,
    *,
    theme: style.Theme,
    pair: int,
    site: int,
    head: int,
    cell: tuple[int, int] | None,
    selectable: bool,
) -> go.Figure:
    """One pair's scores at one site; all positions at once: every site and head instead of the tokens."""
    shape = next(x.shape for x in (result.score, result.attribution) if x.size)
    for name, value, most in (
        ("site", site, shape[0]),
        ("pair", pair, shape[2]),
        ("head", head, shape[4]),
    ):
        if not 0 <= value < most:
            raise InputError(f"{name}={value!r}: expected 0 to {most - 1}.")
    grids = {
        title: _columns(result, getattr(result, name), pair, site, head)
        for name, title in KINDS.items()
        if getattr(result, name).size
    }
    across = _names(result, pair, shape)
    # Exact and estimated share the scale, which the exact ones set: an estimate may be far off.
    low, high = span([next(iter(grids.values()))], 0.0)
    limits = None if low is None or high is None else (low, high)
    n = len(next(iter(grids.values())))
    fig = style.new_figure(
        result.title,
        _about(result, pair, site, head, shape),
        theme=theme,
        rows=len(grids),
        cols=1,
        panels=[f"<b>{title}</b>" for title in grids] if len(grids) > 1 else None,
        vertical_spacing=0.14 if len(grids) < 3 else 0.09,
        shared_xaxes=True,
    )
    below = 0
    for i, values in enumerate(grids.values()):
        where: dict[str, Any] = {"row": i + 1, "col": 1} if len(grids) > 1 else {}
        below = token_grid(
            fig,
            values,
            across,
            name="score",
            middle=0.0,
            limits=limits,
            showscale=i == 0,
            colorbar={"len": 1.0, "y": 0.5},
            theme=theme,
            **where,
        )
        _frame(fig, result, pair, cell, theme, where)
        if i + 1 < len(grids):
            fig.update_xaxes(showticklabels=False, title_text="", **where)
    if result.together:
        fig.update_xaxes(
            title_text="site and head" if shape[4] > 1 else "site", row=len(grids), col=1
        )
    if selectable:
        _cells(fig, n, len(across))
    text = f"{result.formula}. m = {result.metric}. 1: the clean answer is back; 0: nothing changed. Blank: undefined."
    style.caption(fig, text, below=below)
    return give_room(fig, len(grids) * max(110, min(260, 24 * n)), panel_titles=len(grids) > 1)


def _columns(result: Patching, values: np.ndarray, pair: int, site: int, head: int) -> np.ndarray:
    """[iteration, column] tokens of a pair, or sites and heads where all positions are patched at once."""
    if result.together:
        return values[:, :, pair, 0].transpose(1, 0, 2).reshape(values.shape[1], -1)
    return values[site, :, pair, :, head][:, result.valid[pair]]


def _names(result: Patching, pair: int, shape: tuple[int, ...]) -> list[str]:
    if not result.together:
        tokens = zip(result.tokens[pair], result.valid[pair], strict=True)
        return [token for token, there in tokens if there]
    short = [name.replace("hook_", "").replace("attn.", "") for name in result.sites]
    return [f"{s} h{h}" if shape[4] > 1 else s for s in short for h in range(shape[4])]


def _about(result: Patching, pair: int, site: int, head: int, shape: tuple[int, ...]) -> str:
    clean, corrupt = (
        labels.prompt_label(t[pair], 24) for t in (result.clean_tokens, result.tokens)
    )
    part = "all positions" if result.together else result.sites[site]
    if shape[4] > 1 and not result.together:
        part += f", head {head}"
    agree = ""
    if np.isfinite(result.pearson):
        agree = f" · gradients: r = {result.pearson:.2f}, ρ = {result.spearman:.2f}"
    name = labels.escape(result.model.name)
    return f"{name} · {labels.escape(part)}{agree}<br>clean {clean} into {corrupt}"


def _frame(
    fig: go.Figure,
    result: Patching,
    pair: int,
    cell: tuple[int, int] | None,
    theme: style.Theme,
    where: dict[str, Any],
) -> None:
    """Frame the chosen cell, and mark the tokens that differ."""
    colors = style.palette(theme)
    if cell is not None:
        k, x = cell
        fig.add_shape(
            type="rect", x0=x - 0.5, x1=x + 0.5, y0=k - 0.5, y1=k + 0.5,
            line={"color": colors.chosen, "width": 2}, **where,
        )  # fmt: skip
    if result.together:
        return
    for x in np.flatnonzero(result.differs[pair][result.valid[pair]]):
        for side in (-0.5, 0.5):
            line = {"color": colors.chosen, "width": 1, "dash": "dot"}
            fig.add_vline(x=float(x) + side, line=line, **where)


def _cells(fig: go.Figure, rows: int, columns: int) -> None:
    """Invisible markers on the upper grid that can be clicked."""
    y, x = (a.reshape(-1) for a in np.indices((rows, columns)))
    fig.add_scatter(
        x=x, y=y, mode="markers", name="cells", marker={"opacity": 0}, hoverinfo="skip",
        showlegend=False, xaxis="x", yaxis="y",
    )  # fmt: skip
