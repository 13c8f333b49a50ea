"""Figure of structural probes: each measure against the iteration, with every baseline."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from abbie_lens.errors import InputError
from probes.figures import labels, probe_curves, style
from probes.figures.room import give_room

if TYPE_CHECKING:
    from probes.probing.structural_result import StructuralProbes

_TITLES = ("Edges of the tree", "Distances in the tree", "Depths in the tree")
_UNITS = ("UUAS", "Spearman's ρ", "Spearman's ρ")
_NAMES = {
    "shuffled": "permuted trees",
    "untrained": "untrained model",
    "trained": "trained model",
}


def draw(result: StructuralProbes, *, site: str | None, theme: style.Theme) -> go.Figure:
    """A panel a measure. Errors: InputError for an unknown site."""
    if site is not None and site not in result.sites:
        raise InputError(f"site={site!r}: expected one of {', '.join(result.sites)}.")
    s = 0 if site is None else result.sites.index(site)
    n, colors = result.trained.shape[1], style.palette(theme)
    fig = style.new_figure(
        result.title,
        f"{labels.escape(result.model.name)} · r = {result.n_iters} · {labels.escape(result.sites[s])} ·"
        f" {sum(result.n_documents)} documents, {sum(result.n_sentences)} sentences",
        theme=theme,
        rows=len(_TITLES),
        cols=1,
        panels=[f"<b>{title}</b>" for title in _TITLES],
        vertical_spacing=0.1,
    )
    for m, unit in enumerate(_UNITS):
        at: dict[str, Any] = {"row": m + 1, "legend": m == 0}
        for condition, name in _NAMES.items():
            values, banded = getattr(result, condition)[s, :, m], condition == "trained"
            probe_curves.curve(fig, condition, name, values, theme, band=banded, **at)
        levels = [
            ("h<sub>0</sub> (Head output)", result.head_output[m], style.role("h0", theme)["color"], "dash"),
            ("token embedding", result.embedding[m], colors.ink, "dashdot"),
            ("each word joined to the next", result.chain[m], colors.muted, "longdash"),
        ]  # fmt: skip
        if m == 0:
            levels.append(("random tree", result.random_tree, colors.muted, "dot"))
        for name, values, color, dash in levels:
            probe_curves.level(fig, name, values[0], n, color, dash, **at)
        title = "iteration k" if m == len(_UNITS) - 1 else None
        style.iteration_axis(fig, n, row=m + 1, col=1, title=title)
        fig.update_yaxes(title={"text": unit}, row=m + 1, col=1)
    style.caption(fig, _caption(result))
    return give_room(fig, 620, legend_lines=3, panel_titles=True)


def _caption(result: StructuralProbes) -> str:
    sentences = "+".join(map(str, result.n_sentences))
    text = f"{result.formula}. Sentences (training + validation + test): {sentences}; rank {result.rank}."
    if result.too_long:
        text += f" Left out, of more than {result.longest} words: {result.too_long}."
    if result.cut:
        text += f" Left out, in two windows: {result.cut}."
    return text
