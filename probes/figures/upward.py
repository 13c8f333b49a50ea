"""Figure of loss and accuracy beyond the trained depth, and of their change from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from probes.figures import labels, style
from probes.figures.bands import add_band
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.upward import Upward

TITLES = ("NLL (nats per token)", "accuracy")


def draw(result: Upward, *, theme: style.Theme) -> go.Figure:
    """Values above, changes from the trained depth below; trained and random weights share each scale."""
    heads = [f"<b>{t}</b>" for t in TITLES] + [f"<b>change of {t}</b>" for t in ("NLL", "accuracy")]
    name = labels.escape(result.model.name)
    about = f"{name} · trained at r = {result.trained} · {result.n_documents} documents, {result.n_tokens} tokens"
    fig = style.new_figure(
        result.title, about, theme=theme, rows=2, cols=2, panels=heads,
        horizontal_spacing=0.11, vertical_spacing=0.2,
    )  # fmt: skip
    # Depths double: their places are drawn as such, 0 one step to the left of 1.
    x = np.log2(np.maximum(result.depths, 0.5))
    for measure in range(2):
        for row in (1, 2):
            cell: dict[str, Any] = {"row": row, "col": measure + 1}
            for role, run in (("control", result.control), ("trained", result)):
                if run is not None:
                    _curve(fig, run, measure, role, x, theme, change=row == 2, **cell)
            colors = style.palette(theme)
            line = {"width": 1, "dash": "dot", "color": colors.muted}
            fig.add_vline(x=float(np.log2(max(result.trained, 0.5))), line=line, **cell)
            if row == 2:
                fig.add_hline(y=0, line={"width": 1, "color": colors.line}, **cell)
            fig.update_xaxes(
                tickmode="array", tickvals=x, ticktext=[str(r) for r in result.depths],
                title_text="iterations r" if row == 2 else None, zeroline=False, **cell,
            )  # fmt: skip
            fig.update_yaxes(nticks=6, zeroline=False, **cell)
    fig.update_layout(legend_traceorder="reversed")
    text = (
        f"Dotted: the trained depth. Band: {100 * result.confidence:g}% bootstrap over documents; the change is drawn"
        " over the same documents, so that it can be certain where the bands above overlap."
    )
    refused = [f"r = {r}: {w.rstrip('.')}" for r, w in zip(result.depths, result.undefined, strict=True) if w]  # fmt: skip
    text += f" No value at {'; '.join(refused)}." if refused else ""
    style.caption(fig, text, below=50)
    return give_room(fig, 430, legend_lines=1, panel_titles=True)


def _curve(
    fig: go.Figure,
    run: Upward,
    measure: int,
    role: Any,
    x: np.ndarray,
    theme: style.Theme,
    *,
    change: bool,
    row: int,
    col: int,
) -> None:
    look = style.role(role, theme)
    label = style.ROLES[role]
    names = ("change", "change_low", "change_high") if change else ("value", "low", "high")
    value, low, high = (getattr(run, name)[measure] for name in names)
    add_band(fig, x, low, high, look["color"], alpha=0.18, row=row, col=col)
    fig.add_scatter(
        x=x,
        y=value,
        name=label,
        legendgroup=role,
        showlegend=row == col == 1,
        mode="lines+markers",
        line={"color": look["color"], "dash": look["dash"], "width": 2},
        marker={"symbol": look["symbol"], "size": 6 if role == "trained" else 9},
        customdata=np.stack([run.depths, low, high], -1),
        hovertemplate=f"<b>{label}</b><br>r = %{{customdata[0]}}<br>%{{y:.4g}}"
        "<br>%{customdata[1]:.4g} … %{customdata[2]:.4g}<extra></extra>",
        row=row,
        col=col,
    )
