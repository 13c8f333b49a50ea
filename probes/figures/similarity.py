"""Figure of iteration × iteration similarities, trained above random weights on one scale."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import plotly.graph_objects as go

from probes.figures import style
from probes.figures.grid import span
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.dynamics.similarity import Similarity

TITLES = {"cka": "debiased CKA", "cosine": "mean cosine"}


def draw(result: Similarity, *, theme: style.Theme) -> go.Figure:
    """Two columns, CKA and cosine; one row for each set of weights."""
    runs = {style.ROLES["trained"]: result}
    if result.control is not None:
        runs[style.ROLES["control"]] = result.control
    fig = style.new_figure(
        result.title,
        style.subtitle(result, None),
        theme=theme,
        rows=len(runs),
        cols=2,
        panels=[f"<b>{title}</b>, {name}" for name in runs for title in TITLES.values()],
        horizontal_spacing=0.14,
        vertical_spacing=0.16,
    )
    # From the least value on: what lies between 0.9 and 1 would else be one colour.
    low, _ = span([run.matrix(name) for run in runs.values() for name in TITLES])
    for row, run in enumerate(runs.values(), 1):
        for col, (name, title) in enumerate(TITLES.items(), 1):
            values = run.matrix(name)
            fig.add_heatmap(
                z=values,
                zmin=low,
                zmax=1,
                colorscale=style.SEQUENTIAL,
                showscale=row == col == 1,
                colorbar={"title": {"text": "similarity", "side": "right"}},
                hovertemplate=f"{title}<br>iterations %{{x}}, %{{y}}<br>%{{z:.4f}}<extra></extra>",
                row=row,
                col=col,
            )
            n = len(values)
            across = "iteration j" if row == len(runs) else None
            style.iteration_axis(fig, n, max_ticks=9, title=across, row=row, col=col)
            style.iteration_axis(fig, n, "y", max_ticks=9, row=row, col=col)
            anchor = f"x{(row - 1) * 2 + col}" if row * col > 1 else "x"
            fig.update_yaxes(
                scaleanchor=anchor, constrain="domain", showgrid=False, row=row, col=col
            )
            fig.update_xaxes(constrain="domain", showgrid=False, row=row, col=col)
    what = "u(hₖ)" if result.unit else "hₖ"
    n = min(int(np.min(result.n_samples)), result.max_tokens)
    text = (
        f"Samples: at least {n} tokens, states {what}, row and column 0 the Head's output. CKA: linear kernel,"
        " unbiased HSIC, so unrelated states give 0 whatever their number. Blank: undefined."
    )
    style.caption(fig, text, below=50)
    return give_room(fig, 290 * len(runs), panel_titles=True)
