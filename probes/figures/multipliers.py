"""Leading multipliers of every token in the complex plane, against the unit circle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import chosen, labels, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.spectrum import Spectrum

_PLOT_PX = 330
_NAMES = {"step": "of the step", "direction": "of the direction map"}


def draw(
    result: Spectrum,
    *,
    theme: style.Theme,
    batch: int = 0,
    at: int | None = None,
    position: int | None = None,
) -> go.Figure:
    """One panel a map, trained and random weights in it; `at` an iteration that was computed, the last if None.

    `position` shows one token only.
    """
    chosen.sequence(result, batch)
    k = result.at[-1] if at is None else at
    if k not in result.at:
        raise InputError(f"at={at}: computed were {', '.join(map(str, result.at))}.")
    if position is not None:
        chosen.check(result, position, batch)
    maps = list(result.radius)
    fig = style.new_figure(
        "Leading multipliers",
        f"{style.subtitle(result, batch)}<br>iteration {k} to {k + 1}",
        theme=theme,
        rows=1,
        cols=len(maps),
        panels=[f"<b>{_NAMES[of]}</b><br>{_median(result, of, k)}" for of in maps],
        horizontal_spacing=0.14,
    )
    for col, of in enumerate(maps, start=1):
        reach = 1.1
        for role, one in (("control", result.control), ("trained", result)):
            if one is not None:
                reach = max(reach, _points(fig, one, role, of, k, (batch, position), col, theme))
        _circle(fig, col, theme)
        ticks = {"range": [-reach, reach], "nticks": 6, "tickangle": 0, "zeroline": True}
        fig.update_xaxes(title_text="real part", row=1, col=col, **ticks)
        anchor = "x" if col == 1 else f"x{col}"
        fig.update_yaxes(scaleanchor=anchor, scaleratio=1, row=1, col=col, **ticks)
    fig.update_yaxes(title_text="imaginary part", row=1, col=1)
    who = "every token"
    if position is not None:
        who = f"{labels.visible(result.tokens[batch][position])} (position {position})"
    style.caption(
        fig,
        f"{result.formula}. Dots: the largest λ of {who}. Inside the circle a difference shrinks each iteration, on "
        "it it stays, outside it grows. ρ: medians over tokens, trained and random weights.",
        below=50,
    )
    return give_room(fig, _PLOT_PX, legend_lines=1, panel_titles=True)


def _median(result: Spectrum, of: str, k: int) -> str:
    found = []
    for one in (result, result.control):
        if one is not None:
            values = one.radius[of][k]
            there = np.isfinite(values).any()
            found.append(f"{np.nanmedian(values):.3g}" if there else "undefined")
    return f"ρ = {' | '.join(found)}"


def _points(
    fig: go.Figure,
    result: Spectrum,
    role: Any,
    of: str,
    k: int,
    where: tuple[int, int | None],
    col: int,
    theme: style.Theme,
) -> float:
    """Returns how far out they reach."""
    look = style.role(role, theme)
    batch, position = where
    positions = np.flatnonzero(result.valid[batch]) if position is None else np.array([position])
    values = result.multipliers[of][k, batch, positions]
    real, imaginary = values[..., 0].ravel(), values[..., 1].ravel()
    size = np.hypot(real, imaginary)
    names = [f"{labels.token_label(result.tokens[batch][p])} (position {p})" for p in positions]
    name = style.ROLES[role]
    fig.add_scatter(
        x=real,
        y=imaginary,
        mode="markers",
        name=name,
        legendgroup=role,
        showlegend=col == 1,
        marker={
            "symbol": look["symbol"],
            "color": style.rgba(look["color"], 0.75),
            "size": 6 if role == "trained" else 8,
        },
        customdata=np.stack([np.repeat(names, values.shape[1]), size.astype(object)], -1),
        hovertemplate=f"<b>{name}</b><br>%{{customdata[0]}}<br>λ = %{{x:.3f}} + %{{y:.3f}} i"
        "<br>|λ| = %{customdata[1]:.3f}<extra></extra>",
        row=1,
        col=col,
    )
    return 1.1 * float(np.nanmax(size)) if np.isfinite(size).any() else 0.0


def _circle(fig: go.Figure, col: int, theme: style.Theme) -> None:
    fig.add_shape(
        type="circle",
        x0=-1,
        x1=1,
        y0=-1,
        y1=1,
        line={"color": style.palette(theme).muted, "width": 1.5, "dash": "dot"},
        row=1,
        col=col,
    )
