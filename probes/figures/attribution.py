"""Figures of direct logit attribution: components against iteration with Head and Tail apart, and sums by iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.grid import span
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.attribution import LogitAttribution

_ROW_PX, _MOST_NUMBERS = 26, 9


def draw(
    result: LogitAttribution, *, view: str, theme: style.Theme, **options: int | None
) -> go.Figure:
    """The figure of one view. Errors: InputError for an unknown view."""
    views = {"components": components, "heads": heads, "iterations": iterations}
    if view not in views:
        raise InputError(f"view={view!r}: expected one of {', '.join(views)}.")
    return views[view](result, theme=theme, **options)


def components(
    result: LogitAttribution, *, theme: style.Theme, batch: int = 0, position: int | None = None
) -> go.Figure:
    """Before the loop, every iteration, and the Tail: a row per component, coloured by what it adds to the logit."""
    column = result.column(batch, position)
    panels = {
        "before the loop": result.rows(("begin", "head")),
        "Body, by iteration": result.rows(("body",)),
        "Tail and read-out": result.rows(("tail", "readout")),
    }
    parts = result.by_stage()
    told = "logit {:.2f} = before {:.2f} + Body {:.2f} + Tail {:.2f} + bias {:.2f}".format(
        *(float(x[batch, column]) for x in (result.logit, *parts.values()))
    )
    return _panels(result, panels, told, batch, column, theme)


def heads(
    result: LogitAttribution,
    *,
    theme: style.Theme,
    block: int = 0,
    batch: int = 0,
    position: int | None = None,
) -> go.Figure:
    """The heads of one Body block against iteration."""
    column = result.column(batch, position)
    rows = result.rows(("body",), block=block)
    if not rows:
        known = sorted({int(b) for b in result.block[np.isin(result.stage, "body")] if b >= 0})
        raise InputError(f"block={block!r}: expected one of {', '.join(map(str, known))}.")
    return _panels(result, {f"attention of Body block {block}": rows}, "", batch, column, theme)


def iterations(
    result: LogitAttribution, *, theme: style.Theme, batch: int = 0, position: int | None = None
) -> go.Figure:
    """What each iteration adds in all: to the target's logit, to a random token's, and without later carries."""
    column = result.column(batch, position)
    fig = style.new_figure(result.title, _subtitle(result, batch, column), theme=theme)
    random = labels.token_label(result.token(int(result.random_ids[batch, column])))
    lines = {
        "contribution": ("trained", "this logit"),
        "direct": ("h0", "the same, not weighted by later carries"),
        "random_contribution": ("control", f"a random token’s, {random}"),
    }
    for name, (role, label) in lines.items():
        look = style.role(role, theme)  # type: ignore[arg-type]
        fig.add_scatter(
            x=np.arange(result.n_iters),
            y=result.by_iteration(name)[:, batch, column],
            name=label,
            mode="lines+markers",
            line={"color": look["color"], "dash": look["dash"], "width": 2},
            marker={"symbol": look["symbol"], "size": 7},
            hovertemplate=f"<b>{label}</b><br>iteration %{{x}}<br>%{{y:.4g}}<extra></extra>",
        )
    style.iteration_axis(fig, result.n_iters, title="iteration i")
    fig.update_yaxes(title="adds to the logit")
    text = result.formula + ". Sums over the Body’s heads, MLPs and injections of an iteration."
    return give_room(style.caption(fig, text), 280, legend_lines=2)


def _panels(
    result: LogitAttribution,
    panels: dict[str, dict[str, np.ndarray]],
    told: str,
    batch: int,
    column: int,
    theme: style.Theme,
) -> go.Figure:
    shown = {
        title: np.array([x[:, batch, column] for x in rows.values()])
        for title, rows in panels.items()
        if rows
    }
    low, high = span([values for values in shown.values() if values.size], middle=0.0)
    wide = max((values.shape[1] for values in shown.values()), default=1)
    fig = style.new_figure(
        result.title,
        _subtitle(result, batch, column) + (f"<br>{told}" if told else ""),
        theme=theme,
        rows=1,
        cols=len(shown),
        panels=list(shown),
        column_widths=[max(0.16, values.shape[1] / (wide + 4)) for values in shown.values()],
        horizontal_spacing=0.14 if len(shown) > 1 else 0.0,
    )
    for col, (title, values) in enumerate(shown.items(), 1):
        names = [labels.escape(name) for name in panels[title]]
        looped = title not in ("before the loop", "Tail and read-out")
        fig.add_heatmap(
            z=values,
            x=np.arange(values.shape[1]),
            y=names,
            zmin=low,
            zmax=high,
            zmid=0,
            colorscale=style.diverging(theme),
            xgap=1,
            ygap=1,
            texttemplate="%{z:.2f}" if values.shape[1] <= _MOST_NUMBERS else None,
            textfont_size=10,
            showscale=col == len(shown),
            colorbar={"title": {"text": "adds to the logit", "side": "right"}},
            hovertemplate="%{y}"
            + (", iteration %{x}" if looped else "")
            + "<br>%{z:.4g}<extra></extra>",
            row=1,
            col=col,
        )
        fig.update_yaxes(tickfont_size=11, showgrid=False, row=1, col=col)
        if looped:
            style.iteration_axis(
                fig, values.shape[1], title="iteration i", max_ticks=9, row=1, col=col
            )
        else:
            fig.update_xaxes(showticklabels=False, showgrid=False, row=1, col=col)
    fig.update_layout(margin_l=104)
    rows = max((len(values) for values in shown.values()), default=1)
    style.caption(
        fig,
        f"{result.formula}. attn b, MLP b: of block b, upward in the order of the pass.",
        below=50,
    )
    return give_room(fig, max(200, _ROW_PX * rows), panel_titles=True)


def _subtitle(result: LogitAttribution, batch: int, column: int) -> str:
    name = lambda ids: labels.token_label(result.token(int(ids[batch, column])))  # noqa: E731
    at = int(result.positions[column])
    what = f"logit of “{name(result.target_ids)}”"
    if result.versus_ids is not None:
        what += f" less that of {name(result.versus_ids)}"
    here = labels.token_label(result.tokens[batch][at])
    capped = ", before the soft cap" if result.soft_cap else ""
    return f"{style.subtitle(result, batch)}<br>{what}{capped}, after {here} (position {at})"
