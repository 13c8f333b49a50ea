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
    "paths": ("Trajectories", "trajectories", lambda t: t, {"view": "paths"}),
}  # fmt: skip


def show(left: LiveSource, right: LiveSource, look: str) -> None:
    """The chosen figure for both sides, its downloads, and a table of both runs' numbers."""
    title, kind, prepare, view = LOOKS[look]
    results = [prepare(side.result(kind)) for side in (left, right)]
    drawn = [_narrow(result.figure(theme=figures.theme(), **view), result) for result in results]
    scales.share(*drawn)
    for column, name, result, figure in zip(
        st.columns(2), ("left", "right"), results, drawn, strict=True
    ):
        with column:
            figures.draw(figure, f"compare-{name}", f"{title}, {name}")
            downloads.buttons(result, f"{look}-{name}")
    st.caption(plain.markdown(results[0].formula))
    st.dataframe(numbers(left, right), hide_index=True, row_height=26)


def _narrow(figure: go.Figure, result: Result) -> go.Figure:
    """For half a page: lower, a short subtitle, and no caption, which is set for a whole page."""
    name, prompt = labels.escape(result.model.name), labels.prompt_label(result.tokens[0], 28)
    figure.update_layout(title_subtitle_text=f"{name} · r = {result.n_iters} · {prompt}")
    for caption in figure.select_annotations({"name": "caption"}):
        figure.update_layout(margin_b=-caption.yshift)
        caption.visible = False
    return figures.fit(figure, HEIGHT)


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
