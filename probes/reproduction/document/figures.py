"""Figures of the document, from stored metrics; families of one kind share a panel, `std` is in every one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from probes.figures.style import iteration_colors, role, series
from probes.reproduction.claims.stacks import courses
from probes.reproduction.comparisons import frontier
from probes.reproduction.store import Metrics, numbers
from probes.reproduction.svg import Line, Panel, chart

GROUPS = {
    "Head, Body, Tail": ("abbie-c", "abbie-d", "0pt", "huginn", "relaxed"),
    "whole stack looped": ("lt", "lt-i", "lt-ia", "flt", "flt-res", "hrm"),
    "feedback and resolution": ("ponder", "adaponder", "spiral", "ponder-2"),
    "learned exits": ("ouro", "ut-act", "pondernet", "mor", "loopus"),
    "stable injection": ("parcae", "fprm", "retrofit"),
}
REFERENCE = "std"
DISTANCES = {"raw": "raw step", "relative": "relative step", "direction": "direction step",
             "readout": "read-out step"}  # fmt: skip


def figures(metrics: Metrics) -> dict[str, str]:
    """SVG text by file name; only those that something was measured for."""
    made = {
        "nll.svg": _nll(metrics),
        "flops.svg": _flops(metrics),
        "fixed-point.svg": _fixed_points(metrics),
        "stability.svg": _stability(metrics),
        "attention.svg": _attention(metrics),
    }
    return {name: text for name, text in made.items() if text}


def groups(metrics: Metrics) -> dict[str, list[str]]:
    """Families of the comparison by panel, the reference first; unknown ones in a panel of their own."""
    loops = {f: spec["loop"].get("family", f) for f, spec in metrics.config()["families"].items()}
    found = {
        title: [f for f, loop in loops.items() if loop in members]
        for title, members in GROUPS.items()
    }
    placed = {f for members in found.values() for f in members} | {REFERENCE}
    found["others"] = [f for f in loops if f not in placed]
    reference = [REFERENCE] if REFERENCE in loops else []
    return {title: reference + members for title, members in found.items() if members} or {
        "families": reference
    }


def _nll(metrics: Metrics) -> str:
    def line(family: str, look: dict[str, Any]) -> Line | None:
        stored = metrics.values(family, "nll")
        if stored is None:
            return None
        nll, low, high = (numbers(stored[name]) for name in ("nll", "low", "high"))
        return Line(family, stored["n_iters"], nll, low=low, high=high, **look)

    depths = sorted({r for f in metrics.families() for r in (metrics.values(f, "nll") or {"n_iters": []})["n_iters"] if r})  # fmt: skip
    return _panels(
        metrics, line, "Held-out NLL against r", "iterations r", "NLL, nats per token",
        log_x=True, x_ticks=depths,
    )  # fmt: skip


def _flops(metrics: Metrics) -> str:
    def line(family: str, look: dict[str, Any]) -> Line | None:
        _, cost, nll = frontier(metrics, family)
        return Line(family, cost / 1e6, nll, **look) if len(cost) else None

    return _panels(
        metrics, line, "Held-out NLL against compute", "MFLOPs per token", "NLL, nats per token",
        log_x=True,
    )  # fmt: skip


def _panels(
    metrics: Metrics,
    line: Callable[[str, dict[str, Any]], Line | None],
    title: str,
    x: str,
    y: str,
    **options: Any,
) -> str:
    panels = []
    for name, members in groups(metrics).items():
        lines = [made for f in members if (made := line(f, _look(f, members))) is not None]
        if lines:
            panels.append(Panel(name, lines, x, y, **options))
    return chart(panels, title, share_y=True) if panels else ""


def _fixed_points(metrics: Metrics) -> str:
    panels = []
    for family in metrics.families():
        stored = metrics.values(family, "fixed_point")
        if stored is None or stored["trained"] is None:
            continue
        lines = []
        for i, (name, title) in enumerate(DISTANCES.items()):
            for weights, dash in (("trained", "solid"), ("random", "dash")):
                steps = numbers(stored[weights]["median"][name])
                steps = np.where(steps > 0, steps, np.nan)
                look = {**series(i), "dash": dash}
                label = title if weights == "trained" else f"{title}, random"
                lines.append(Line(label, list(range(len(steps))), steps, **look))
        ticks = _whole(lines, 4)
        panels.append(
            Panel(family, lines, "iteration k", "median over tokens", log_y=True, x_ticks=ticks)
        )
    return chart(panels, "Distance between successive states", columns=3) if panels else ""


def _stability(metrics: Metrics) -> str:
    panels = []
    for family in metrics.families():
        parts = [metrics.values(family, p) for p in metrics.parts(family, "stability")]
        found = [values for values in parts if values is not None]
        if not found:
            continue
        looks = [{**series(i), "color": c} for i, c in enumerate(iteration_colors(len(found)))]
        named = [f"K = {course.n_iters}" for course in courses(metrics, family)]
        gradient = [
            Line(name, range(1, len(v["gradient"]) + 1), numbers(v["gradient"]), **look, )
            for name, v, look in zip(named, found, looks, strict=True)
        ]  # fmt: skip
        state = [
            Line(name, range(len(v["trained"]["state"])), numbers(v["trained"]["state"]), **look)
            for name, v, look in zip(named, found, looks, strict=True)
            if v["trained"] is not None
        ]
        for title, lines, x, y in (
            ("gradient norm while training", gradient, "step", "before clipping"),
            ("state norm by loop, after training", state, "iteration k", "‖Body output‖, mean"),
        ):
            if not lines:  # every training diverged
                continue
            thin = [_no_marks(line) for line in lines] if x == "step" else lines
            ticks = None if x == "step" else _whole(lines)
            panels.append(Panel(f"{family}: {title}", thin, x, y, log_y=True, x_ticks=ticks))
    return chart(panels, "Stability at K loops") if panels else ""


def _no_marks(line: Line) -> Line:
    """A long series: the line alone, at most 200 points of it (the largest of each stretch, so spikes stay)."""
    y = np.asarray(line.y, dtype=float)
    if len(y) <= 40:
        return line
    width = -(-len(y) // 200)
    pieces = [y[i : i + width].max() for i in range(0, len(y), width)]
    return Line(
        line.label,
        [1 + i * width for i in range(len(pieces))],
        pieces,
        line.color,
        line.dash,
        "none",
    )


def _attention(metrics: Metrics) -> str:
    panels = []
    for quantity, title, y in (
        ("span", "attention span", "tokens"), ("entropy", "attention entropy", "share of log(keys)")
    ):  # fmt: skip
        for name, members in groups(metrics).items():
            lines = []
            for f in members:
                stored = metrics.values(f, "attention")
                if stored is not None:
                    values = numbers(stored[quantity])
                    lines.append(Line(f, range(len(values)), values, **_look(f, members)))
            if lines:
                ticks = _whole(lines)
                panels.append(Panel(f"{title}: {name}", lines, "iteration k", y, x_ticks=ticks))
    return chart(panels, "How far the Body's attention reaches, by loop") if panels else ""


def _whole(lines: Sequence[Line], most: int = 7) -> list[float]:
    """Whole numbers along all of the lines' iterations, `most` of them at most."""
    last = max(int(max(line.x)) for line in lines)
    return [float(k) for k in range(0, last + 1, -(-(last + 1) // most))]


def _look(family: str, members: list[str]) -> dict[str, Any]:
    if family == REFERENCE:
        return role("h0")
    return series([f for f in members if f != REFERENCE].index(family))
