"""Two sources side by side: one analysis, one look, shared scales, and the numbers of both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from app import summary
from app.view import downloads, figures, plain, scales
from app.view.source import LiveSource
from probes import Result
from probes.figures import labels

PROMPT = "He shut the door, and they walked together down the road to the village without a word"
HEIGHT = 390
WIDTH = 420
"""About what one side has at 1440 pixels; the grid shortens its cell texts to it."""
_SUBTITLE_ENDS, _LEGEND_LINE = 78, 20
"""Pixels from the top edge to below two lines of subtitle; height of a legend's line."""


def _alone(fixed: Any) -> Any:
    """Without the random weights beside: here the other model is what it is compared with."""
    return dataclasses.replace(fixed, control=None)


Prepare = Callable[[Any], Result]
LOOKS: dict[str, tuple[str, str, Prepare, dict[str, Any]]] = {
    "loss": ("Loss by depth", "halting", lambda h: h.sweep("kl"), {"metric": "nll"}),
    "lens": ("Lens", "lens", lambda lens: lens, {"width": WIDTH}),
    "direction": (
        "Direction step", "fixed_point", _alone, {"view": "tokens", "metric": "direction"},
    ),
    "norm": ("Norm of the state", "fixed_point", _alone, {"view": "norm"}),
    "halting": ("Exit steps, KL rule", "halting", lambda h: h.at("kl"), {"view": "map"}),
    "paths": ("Trajectories", "trajectories", lambda t: t, {"view": "paths", "n_pairs": 1}),
}  # fmt: skip


def show(left: LiveSource, right: LiveSource, look: str) -> None:
    """The chosen figure for both sides, its downloads, and a table of both runs' numbers."""
    title, kind, prepare, view = LOOKS[look]
    results = [prepare(side.result(kind)) for side in (left, right)]
    drawn = [half(result, theme=figures.theme(), **view) for result in results]
    scales.share(*drawn)
    level(*drawn)
    for column, name, result, figure in zip(
        st.columns(2), ("left", "right"), results, drawn, strict=True
    ):
        with column:
            figures.draw(figure, f"compare-{name}", f"{title}, {name}")
            downloads.buttons(result, f"{look}-{name}")
    st.caption(plain.markdown(results[0].formula))
    st.dataframe(numbers(left, right), hide_index=True, row_height=26)


def half(result: Result, **view: Any) -> go.Figure:
    """The result's figure for half a page: lower, a subtitle of two short lines, and no caption.

    The caption is set for a whole page; the formula stands below both figures.
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
    return figures.fit(figure, HEIGHT)


def level(*drawn: go.Figure) -> None:
    """Begin the plots of both sides at one height, below the longer of their legends."""
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


def numbers(left: LiveSource, right: LiveSource) -> dict[str, list[str]]:
    """The same numbers of both sides, as a table of three columns."""
    sides = [_numbers(side) for side in (left, right)]
    return {
        "": list(sides[0]),
        f"left: {plain.token(Path(left.model).name, 60)}": list(sides[0].values()),
        f"right: {plain.token(Path(right.model).name, 60)}": list(sides[1].values()),
    }


def _numbers(side: LiveSource) -> dict[str, str]:
    lens, fixed, halting = (side.result(kind) for kind in ("lens", "fixed_point", "halting"))
    steps = summary.fixed_point(fixed)["last_step"]
    top = summary.prediction(lens)[:1]
    outcome = halting.at("kl")
    return {
        "next token": ", ".join(f"{plain.token(t['token'])} ({t['probability']:.3f})" for t in top),
        f"NLL at r = {lens.n_iters} (nats)": f"{summary.nll(lens)[-1]:.3f}",
        **{f"last {metric} step": f"{run['trained']:.3g}" for metric, run in steps.items()},
        "mean exit step (KL rule)": f"{outcome.mean_steps:.2f}",
    }
