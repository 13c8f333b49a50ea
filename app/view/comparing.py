"""Two sources side by side: one analysis, one look, shared scales, and the numbers of both."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from app import summary
from app.view import downloads, figures, plain, scales
from app.view.source import LiveSource

PROMPT = "He shut the door, and they walked together down the road to the village without a word"
LOOKS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "direction": (
        "Direction of the state",
        "fixed_point",
        {"view": "tokens", "metric": "direction"},
    ),
    "norm": ("Norm of the state", "fixed_point", {"view": "norm"}),
    "lens": ("Lens: probability of the top token", "lens", {"metric": "probability"}),
    "nll": ("Lens: NLL of the next token", "lens", {"metric": "nll"}),
    "halting": ("Halting: exit step (KL rule)", "halting", {"rule": "kl"}),
    "paths": ("Trajectories", "trajectories", {"view": "paths"}),
}


def show(left: LiveSource, right: LiveSource) -> None:
    """The chosen figure for both sides, its downloads, and a table of both runs' numbers."""
    look = st.selectbox(
        "Figure", list(LOOKS), format_func=lambda name: LOOKS[name][0], key="look",
        bind="query-params",
    )  # fmt: skip
    title, kind, view = LOOKS[look]
    results = [side.result(kind) for side in (left, right)]
    drawn = [result.figure(theme=figures.theme(), **view) for result in results]
    scales.share(*drawn)
    for column, name, side, result, figure in zip(
        st.columns(2), ("left", "right"), (left, right), results, drawn, strict=True
    ):
        with column:
            st.markdown(f"**{plain.markdown(Path(side.model).name)}**")
            figures.draw(figure, f"compare-{name}", f"{title}, {name}")
            downloads.buttons(result, f"{look}-{name}")
    st.dataframe(numbers(left, right), hide_index=True)


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
