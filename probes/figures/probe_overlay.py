"""Figure of probes over a prompt: token × iteration, coloured by what the probe says there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, style
from probes.figures.grid import token_grid
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.probing.overlay import ProbeOverlay

_FEW = 8
"""Classes that colours can still tell apart."""


def draw(result: ProbeOverlay, *, batch: int, of: str | None, theme: style.Theme) -> go.Figure:
    """The class that is said, by colour and letter; or the probability, or value, of one."""
    if not 0 <= batch < len(result.tokens):
        raise InputError(f"batch={batch}: expected 0 to {len(result.tokens) - 1}.")
    if of is not None and of not in result.classes:
        raise InputError(f"of={of!r}: expected one of {', '.join(result.classes)}.")
    fig = style.new_figure(
        f"Probes · {labels.escape(result.description)}",
        f"{labels.escape(result.site)} · {labels.escape(result.model.name)} · r = {result.n_iters}",
        theme=theme,
    )
    outputs, tokens = result.outputs[:, batch], result.tokens[batch]
    hover = [[_answers(result, cell) for cell in row] for row in outputs]
    given: dict[str, Any] = dict(hover=hover, theme=theme, apart="@" in result.site)
    if of is None and result.kind == "classes" and len(result.classes) <= _FEW:
        below = _classes(fig, result, batch, given)
        key = "Each cell shows the class that is most probable. "
    else:
        column = 0 if of is None else result.classes.index(of)
        if of is None and result.kind == "classes":
            values, name = outputs.max(-1), "probability of the class said"
        else:
            what = labels.name_label(result.classes[column])
            values = outputs[..., column]
            name = what if result.kind == "regression" else f"p({what})"
        limits = None if result.kind == "regression" else (0.0, 1.0)
        below = token_grid(fig, values, tokens, name=name, limits=limits, **given)
        key = ""
    style.caption(fig, f"{key}{result.equation}.", below=below)
    return give_room(fig, max(220, 26 * len(outputs) + 40))


def _classes(fig: go.Figure, result: ProbeOverlay, batch: int, given: dict[str, Any]) -> int:
    """Cells in the colour of their class."""
    n, theme = len(result.classes), given["theme"]
    colors = [style.series(i, theme)["color"] for i in range(n)]
    steps = [[edge, colors[i]] for i in range(n) for edge in (i / n, (i + 1) / n)]
    names = [labels.name_label(name) for name in result.classes]
    said = np.where(result.said[:, batch] < 0, np.nan, result.said[:, batch]).astype(float)
    return token_grid(
        fig,
        said,
        result.tokens[batch],
        name="class",
        limits=(-0.5, n - 0.5),
        colorscale=steps,
        colorbar={"tickvals": list(range(n)), "ticktext": names, "title": {"text": ""}},
        **given,
    )


def _answers(result: ProbeOverlay, cell: np.ndarray) -> str:
    """The three most probable classes, or every number."""
    if not np.isfinite(cell).all():
        return ""
    order = np.argsort(-cell)[:3] if result.kind != "regression" else range(len(cell))
    return "<br>".join(f"{labels.name_label(result.classes[c])}: {cell[c]:.3f}" for c in order)
