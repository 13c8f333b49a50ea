"""Several runs on one page: laid over each other in one figure, or side by side on shared scales."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from abbie_lens import halting
from abbie_lens.errors import AbbieLensError
from app import summary, trained
from app.view import downloads, figures, notices, plain, runs, scales
from app.view.source import LiveSource
from probes import Comparison, Result, overlays
from probes.figures import labels

MOST = 7
"""Runs that colours, dashes and markers tell apart."""
HEIGHT = 390
WIDTH = 420
"""About what one side has at 1440 pixels; the grid shortens its cell texts to it."""
_SUBTITLE_ENDS, _LEGEND_LINE = 78, 20
"""Pixels from the top edge to below two lines of subtitle; height of a legend's line."""

Runs = Sequence[tuple[str, LiveSource]]
"""What tells a run apart (a model's name, a prompt), and where its results come from."""
OVERLAYS: dict[str, tuple[str, str]] = {
    "losses": ("Loss and entropy by iteration", "lens"),
    "distances": ("Fixed-point distances", "fixed_point"),
    "frontier": ("Halting: depth against quality", "halting"),
}


def _alone(fixed: Any) -> Any:
    """Without the random weights beside: here the other model is what it is compared with."""
    return dataclasses.replace(fixed, control=None)


Prepare = Callable[[Any], Result]
LOOKS: dict[str, tuple[str, str, Prepare, dict[str, Any]]] = {
    "lens": ("Lens", "lens", lambda lens: lens, {"width": WIDTH}),
    "direction": (
        "Direction step", "fixed_point", _alone, {"view": "tokens", "metric": "direction"},
    ),
    "halting": ("Exit steps, KL rule", "halting", lambda h: h.at("kl"), {"view": "map"}),
    "paths": ("Trajectories", "trajectories", lambda t: t, {"view": "paths", "n_pairs": 1}),
}  # fmt: skip
TITLES = {name: title for name, (title, *_) in (OVERLAYS | LOOKS).items()}


def alike(model: str, names: Sequence[str], called: dict[str, str]) -> list[str]:
    """The other models, those with as large a vocabulary first: their losses can be compared."""
    sizes = {m.name: m.config.d_vocab for m in trained.described(called)}
    size = {name: sizes.get(name, sizes.get(called[name])) for name in names}
    others = [name for name in names if name != model]
    return sorted(others, key=lambda name: size[name] != size[model])


def of_models(names: dict[str, str], source: LiveSource) -> list[tuple[str, LiveSource]]:
    """A run of the sidebar's prompt for each model (address -> name); at most as deep as the model goes."""
    loops = {source.model: source.loop}  # another plain decoder has the usual one
    depths = {name: runs.deepest(name, loops.get(name)) or source.n_iters for name in names}
    return [
        (
            called,
            LiveSource(name, source.text, min(source.n_iters, depths[name]), loops.get(name)),
        )
        for name, called in names.items()
    ]


def show(chosen: Runs, look: str, rule: str = "kl") -> None:
    """The chosen figure of all runs, its downloads, and a table of their numbers.

    A run that is refused is said so, and left out.
    """
    kind = (OVERLAYS | LOOKS)[look][1]
    there = []
    for i, (name, source) in enumerate(chosen):
        with notices.calm(
            f"This cannot be run as asked: {plain.markdown(name)}", key=f"notice-{i}"
        ):
            there.append((name, source, source.result(kind)))
    if not there:
        return
    results = [(name, result) for name, _, result in there]
    if look in OVERLAYS:
        figures.show(overlay(results, look, rule), f"compare-{look}")
    else:
        _side_by_side(results, look)
    st.dataframe(numbers([(name, source) for name, source, _ in there]), hide_index=True,
                 row_height=26)  # fmt: skip


def rules(chosen: Runs) -> list[str]:
    """Names of the halting rules that every run has; a run that is refused has no say."""
    there = []
    for _, source in chosen:
        with suppress(AbbieLensError):
            there.append(runs.model(source.model, source.loop))
    return halting.rules_for(*there)


def overlay(results: Sequence[tuple[str, Any]], look: str, rule: str) -> Comparison:
    """One figure of all runs."""
    if look == "distances":
        return overlays.distances(results)
    return overlays.losses(results) if look == "losses" else overlays.halting(results, rule)


def _side_by_side(results: Sequence[tuple[str, Any]], look: str) -> None:
    title, _, prepare, view = LOOKS[look]
    prepared = [(name, prepare(result)) for name, result in results]
    side_by_side(prepared, look, title, [view] * len(prepared))
    if look == "paths":
        st.caption("Every panel has its own components: compare the shapes, not the places.")
    _iterations_differ(results)


def _iterations_differ(results: Sequence[tuple[str, Any]]) -> None:
    differing = {result.model.counts: name for name, result in results}
    if len(differing) > 1:
        told = "; ".join(f"{name}: {count}" for count, name in differing.items())
        st.caption(plain.markdown(f"One iteration is not the same in all. {told}."))


def side_by_side(
    results: Sequence[tuple[str, Any]],
    key: str,
    title: str,
    views: Sequence[dict[str, Any]],
    height: int = HEIGHT,
) -> None:
    """A figure of each result, two in a row, on shared scales; the formula below."""
    drawn = [
        half(result, height, theme=figures.theme(), **view)
        for (_, result), view in zip(results, views, strict=True)
    ]
    scales.share(*drawn)
    level(*drawn)
    columns = st.columns(2)
    for i, ((name, result), figure) in enumerate(zip(results, drawn, strict=True)):
        with columns[i % 2]:
            figures.draw(figure, f"compare-{key}-{i}", f"{title}, {name}")
            downloads.buttons(result, f"{key}-{i + 1}")
    st.caption(plain.markdown(results[0][1].formula))


def half(result: Result, height: int = HEIGHT, **view: Any) -> go.Figure:
    """The result's figure for half a page: lower, a subtitle of two short lines, and no caption.

    The caption is set for a whole page; the formula stands below the figures.
    """
    figure = result.figure(**view)
    name, prompt = (
        labels.token_label(result.model.name, 30),
        labels.prompt_label(result.tokens[0], 32),
    )
    figure.update_layout(title_subtitle_text=f"{name} · r = {result.n_iters}<br>{prompt}")
    for caption in figure.select_annotations({"name": "caption"}):
        figure.update_layout(margin_b=-caption.yshift)
        caption.visible = False
    return figures.fit(figure, height)


def level(*drawn: go.Figure) -> None:
    """Begin the plots of all figures at one height, below the longest of their legends."""
    lines = max(map(_legend_lines, drawn))
    if not lines:
        return
    for figure in drawn:
        figure.update_layout(
            margin_t=_SUBTITLE_ENDS + _LEGEND_LINE * lines + 6,
            legend_y=1 - _SUBTITLE_ENDS / figure.layout.height,
        )


def _legend_lines(figure: go.Figure) -> int:
    """Lines of a legend below the subtitle: in half a page Plotly sets one entry a line."""
    wanted = figure.layout.showlegend
    named = [t for t in figure.data if t.type == "scatter" and t.name and t.showlegend is not False]
    shown = wanted is not False and (wanted or len(named) > 1)
    return len(named) if shown and figure.layout.legend.x == 0 else 0


def numbers(chosen: Runs) -> dict[str, list[str]]:
    """The same numbers of every run, a row each; what a run refuses stays empty."""
    table: dict[str, list[str]] = {
        "": [plain.token(name, 40).replace("·", " ") for name, _ in chosen]
    }
    rows = []
    for _, source in chosen:
        try:
            rows.append(_numbers(source))
        except AbbieLensError:
            rows.append({})
    for column in dict.fromkeys(column for row in rows for column in row):
        table[column] = [row.get(column, "") for row in rows]
    return table


def _numbers(side: LiveSource) -> dict[str, str]:
    lens, fixed, halting = (side.result(kind) for kind in ("lens", "fixed_point", "halting"))
    steps = summary.fixed_point(fixed)["last_step"]
    top = summary.prediction(lens)[:1]
    outcome = halting.at("kl")
    return {
        "r": str(lens.n_iters),
        "next token": ", ".join(f"{plain.token(t['token'])} ({t['probability']:.3f})" for t in top),
        "NLL at r (nats)": f"{summary.nll(lens)[-1]:.3f}",
        **{f"last {metric} step": f"{run['trained']:.3g}" for metric, run in steps.items()},
        "mean exit step (KL rule)": f"{outcome.mean_steps:.2f}",
    }
