"""The token × iteration grid: tokens across, iterations upward, undefined cells blank."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style


def token_grid(
    fig: go.Figure,
    values: np.ndarray,
    tokens: Sequence[str],
    *,
    name: str,
    first: int = 0,
    log: bool = False,
    middle: float | None = None,
    limits: tuple[float, float] | None = None,
    text: Sequence[Sequence[str]] | None = None,
    hover: Sequence[Sequence[str]] | None = None,
    row: int | None = None,
    col: int | None = None,
    theme: style.Theme = "light",
    **heatmap: Any,
) -> int:
    """Draw values [iteration, pos] as a heatmap with both axes labelled; return the pixels its x axis takes.

    name: of the quantity, for colour bar and hover. log: colours by log10 (needs values > 0; others
    stay blank). middle: value that means "no difference", for the diverging map. limits: in the
    values' own unit. text: escaped cell texts. hover: further escaped lines for each cell.
    """
    shown = _log10(values) if log else np.where(np.isfinite(values), values, np.nan)
    if limits is not None:
        low, high = np.log10(limits) if log else limits
    else:
        low, high = _limits(shown, middle)
    if middle is not None:
        heatmap.setdefault("colorscale", style.diverging(theme))
        heatmap["zmid"] = middle
    bar: dict[str, Any] = {"title": {"text": name, "side": "right"}}
    if log:
        bar |= _decades(low, high)
    heatmap["colorbar"] = bar | heatmap.get("colorbar", {})
    trace = go.Heatmap(
        z=shown,
        x=np.arange(values.shape[1]),
        y=np.arange(first, first + len(values)),
        zmin=low,
        zmax=high,
        text=text,
        texttemplate="%{text}" if text is not None else None,
        textfont={"family": style.MONO},
        customdata=_hover(values, tokens, name, first, hover),
        hovertemplate="%{customdata}<extra></extra>",
        xgap=1,
        ygap=1,
        **heatmap,
    )
    fig.add_trace(trace, row=row, col=col)
    style.iteration_axis(fig, len(values), "y", first=first, row=row, col=col)
    update = {"row": row, "col": col, "showgrid": False}
    fig.update_yaxes(**update)
    return style.token_axis(fig, tokens, "x", row=row, col=col)


def _log10(values: np.ndarray) -> np.ndarray:
    positive = np.isfinite(values) & (values > 0)
    return np.log10(
        np.where(positive, values, np.nan), where=positive, out=np.full(values.shape, np.nan)
    )


def _limits(shown: np.ndarray, middle: float | None) -> tuple[float | None, float | None]:
    finite = shown[np.isfinite(shown)]
    if not finite.size:
        return None, None
    if middle is not None:
        reach = float(np.abs(finite - middle).max()) or 1.0
        return middle - reach, middle + reach
    return float(finite.min()), float(finite.max())


def _decades(low: float | None, high: float | None) -> dict[str, Any]:
    if low is None or high is None:
        return {}
    first, last = int(np.ceil(low)), int(np.floor(high))
    every = max(1, -(-(last - first) // 6))
    ticks = list(range(first, last + 1, every))
    if len(ticks) >= 2:
        return {"tickvals": ticks, "ticktext": [f"10<sup>{t}</sup>" for t in ticks]}
    ends = [low, high] if high > low else [low]
    return {"tickvals": ends, "ticktext": [f"{10**t:.2g}" for t in ends]}


def _hover(
    values: np.ndarray,
    tokens: Sequence[str],
    name: str,
    first: int,
    hover: Sequence[Sequence[str]] | None,
) -> list[list[str]]:
    heads = [f"{labels.token_label(t)}  (position {p})" for p, t in enumerate(tokens)]
    return [
        [
            f"<b>{head}</b><br>iteration {first + k}<br>{name} = {_number(values[k, p])}"
            + (f"<br>{hover[k][p]}" if hover is not None else "")
            for p, head in enumerate(heads)
        ]
        for k in range(len(values))
    ]


def _number(value: float) -> str:
    return f"{value:.4g}" if np.isfinite(value) else "undefined"
