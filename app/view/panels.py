"""The panels of the Dynamics page: what each shows, of one run or of two side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app import exporting
from app.view import beside, comparing, demand, figures, notices, plain, readings, tokens
from app.view.source import LiveSource, Source
from probes import FixedPoint, Result, overlays


@dataclass(frozen=True)
class Panel:
    """One panel: its name, the analysis behind it, and what one look at it tells."""

    title: str
    kind: str
    look: str
    """One sentence on what to look for."""
    single: bool = True
    """Whether it can pick out one token."""


PANELS = {
    "distances": Panel(
        "Distances", "fixed_point", "Where direction and read-out fall to the floor, the state comes to rest, whatever raw and relative do."
    ),
    "norm": Panel("Norm", "fixed_point", "A straight rise here multiplies the length every iteration."),
    "tokens": Panel(
        "Token × iteration", "fixed_point", "A column that stays bright upward is a token that goes on moving."
    ),
    "path": Panel("Path", "trajectories", "Arrows that shorten end in a point; a ring orbits; a line drifts."),
    "multipliers": Panel(
        "Multipliers", "spectrum", "Dots inside the circle: small differences die out, so the place attracts."
    ),
    "starts": Panel(
        "Other starts", "path_independence", "Flat and low: the end does not depend on where the run began.", False
    ),
    "blocks": Panel("Blocks", "per_block", "Lines that fall together: every block comes to rest.", False),
    "similarity": Panel(
        "Similarity", "similarity", "A bright square in the corner: from there on the states stay alike.", False
    ),
}  # fmt: skip
METRICS = {
    "direction": "Direction",
    "raw": "Raw",
    "relative": "Relative",
    "readout": "Read-out",
    "norm": "Norm",
    "angle": "Step angle",
    "second_order": "Second order",
    "limit_direction": "Direction to the limit",
    "limit_readout": "Read-out to the limit",
}
PATHS = {
    "phase": "Phase portrait",
    "paths": "More components",
    "orbits": "Each around its mean",
    "waterfall": "Waterfall",
}
BLOCKS = {"curves": "Distances", "limits": "Limits"}

TALL = 560
"""Pixels of half a page that holds trained and random weights one above the other."""

Judged = Sequence[tuple[str, Source, FixedPoint]]
"""Name, source and judged distances of each run."""


def choose(fixed: FixedPoint) -> tuple[str, dict[str, Any], int | None]:
    """The panel, the view of it, and the token that is picked out (None: all)."""
    name = st.segmented_control(
        "Panel", list(PANELS), default="distances", required=True, key="panel",
        format_func=lambda name: PANELS[name].title, bind="query-params", label_visibility="collapsed",
    )  # fmt: skip
    left, right = st.columns(2)
    with left:
        position = tokens.choose(fixed, fixed.valid)
    views = {"distances": {"view": "distances"}, "norm": {"view": "norm"}}
    view = views.get(name, {})
    with right:
        if name == "tokens":
            view = {"view": "tokens", "metric": _select("Distance", METRICS, "distance")}
        if name == "path":
            view = {"view": _select("View", PATHS, "view")}
        if name == "blocks":
            view = {"view": _select("Of the blocks", BLOCKS, "blocks_view")}
    return name, view, position


def show(name: str, runs: Judged, view: dict[str, Any], position: int | None) -> None:
    """The panel for one run or two, the token at `position` of the first picked out, and its numbers."""
    panel = PANELS[name]
    st.caption(f":material/lightbulb: {panel.look}")
    options = {}
    if panel.kind == "trajectories" and isinstance(runs[0][1], LiveSource):
        # Components are of one run: random weights have their own, and so a figure of their own.
        random = st.toggle("Random weights instead", key="random_path", bind="query-params")
        options = {"random": True} if random else {}
    found: list[tuple[str, Result]] = []
    for side, (label, source, fixed) in enumerate(runs):
        with notices.calm(
            f"This cannot be run: {plain.markdown(label)}", key=f"notice-panel-{side}"
        ):
            if panel.kind in exporting.COSTLY:
                if len(runs) > 1:
                    st.caption(plain.markdown(label))
                result = demand.result(panel.kind, source, side)
            elif panel.kind == "fixed_point":
                result = fixed
            else:
                result = source.result(panel.kind, **options)
            if result is not None:
                found.append((label, result))
    if not found:
        return
    if name in ("distances", "norm") and len(found) > 1:
        # Six panels in half a page could not be read: one figure has both.
        figures.show(overlays.distances(found), f"two-{name}")  # type: ignore[misc]
        return
    views = [_picked(name, panel, view, found[0][1], result, position) for _, result in found]
    if len(found) > 1:
        comparing.side_by_side(found, name, panel.title, views, TALL)
        _numbers([result for _, result in found])
        return
    result = found[0][1]
    if panel.kind == "fixed_point" or not readings.any_of(result):
        figures.show(result, name, height=640, **views[0])
        return
    main, aside = st.columns([3, 1])
    with main:
        figures.show(result, name, height=640, **views[0])
    with aside:
        readings.cards(result, 1)


def _picked(
    name: str, panel: Panel, view: dict[str, Any], first: Any, result: Any, position: int | None
) -> dict[str, Any]:
    """The view of one run, with the token picked out where the panel can."""
    if position is None or not panel.single or view.get("view") == "waterfall":
        return view
    text = first.tokens[0][position]
    place = beside.linked(result.tokens[0], result.valid[0], text, position)
    if view.get("view") == "orbits":
        there = np.flatnonzero(result.valid[0]).tolist()
        return view | {"positions": there if place is None else [place]}
    return view if place is None else view | {"position": place}


def _numbers(results: Sequence[Any]) -> None:
    columns = st.columns(len(results))
    for column, result in zip(columns, results, strict=True):
        if not isinstance(result, FixedPoint):
            with column:
                readings.lines(result)


def _select(label: str, options: dict[str, str], key: str) -> str:
    return st.selectbox(
        label, list(options), format_func=options.get, key=key, bind="query-params",
        label_visibility="collapsed",
    )  # fmt: skip
