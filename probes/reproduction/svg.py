"""Line charts as SVG text: the same bytes everywhere, no browser and no font metrics, for a document under version control."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from probes.figures.style import SANS, palette
from probes.reproduction.axes import Place, number, scale, span, ticks

Values = Sequence[float] | np.ndarray

WIDTH, GAP = 800, 16
PLOT_HEIGHT, TOP, BOTTOM, LEFT, RIGHT = 230, 34, 44, 58, 10
LEGEND_ROW = 17
DASH = {"solid": "", "dash": "7 4", "dot": "2 3", "dashdot": "7 3 2 3", "longdash": "11 4"}
DASH["longdashdot"] = "11 3 2 3"


@dataclass(frozen=True)
class Line:
    """One series; NaN leaves a gap."""

    label: str
    x: Values
    y: Values
    color: str
    dash: str = "solid"
    symbol: str = "circle"
    low: Values | None = None
    high: Values | None = None


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    lines: Sequence[Line]
    x_title: str
    y_title: str
    log_x: bool = False
    log_y: bool = False
    x_ticks: Values | None = None
    """Where the x axis is labelled; None: chosen."""


def chart(panels: Sequence[Panel], title: str, columns: int = 2, share_y: bool = False) -> str:
    """The panels in rows of `columns`, with one legend if all have the same lines, else each with its own.

    `share_y`: one scale for all.
    """
    columns = min(columns, len(panels))
    width = (WIDTH - GAP * (columns - 1)) / columns
    labels = {tuple(line.label for line in p.lines) for p in panels}
    together = len(labels) == 1 and len(panels) > 1
    legend = 0 if together else max(_legend_height(p.lines, width) for p in panels)
    height = TOP + PLOT_HEIGHT + BOTTOM + legend + GAP
    rows = math.ceil(len(panels) / columns)
    below = 34 + rows * height
    total = below + (_legend_height(panels[0].lines, WIDTH) if together else 0)
    colors = palette("light")
    all_y = span([v for p in panels for v in _values(p, "y")], any(p.log_y for p in panels))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{total}" '
        f'viewBox="0 0 {WIDTH} {total}" font-family="{escape(SANS, quote=True)}" font-size="12">',
        f'<rect width="{WIDTH}" height="{total}" fill="{colors.paper}"/>',
        _text(0, 20, title, colors.ink, size=15, weight="600"),
    ]
    for i, panel in enumerate(panels):
        left = (i % columns) * (width + GAP)
        top = 34 + (i // columns) * height
        y_span = all_y if share_y else span(_values(panel, "y"), panel.log_y)
        parts.append(f'<g transform="translate({_n(left)} {_n(top)})">')
        parts += _panel(panel, width, y_span)
        if not together:
            parts += _legend(panel.lines, TOP + PLOT_HEIGHT + BOTTOM + 8, width)
        parts.append("</g>")
    if together:
        parts += _legend(panels[0].lines, below, WIDTH)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, width: float, y_span: tuple[float, float]) -> list[str]:
    colors = palette("light")
    right, bottom = width - RIGHT, TOP + PLOT_HEIGHT
    x_span = span(_values(panel, "x"), panel.log_x, margin=0.04)
    place_x = scale(x_span, (LEFT, right), panel.log_x)
    place_y = scale(y_span, (bottom, TOP), panel.log_y)
    parts = [_text(LEFT, TOP - 10, panel.title, colors.ink, size=13)]
    for value in ticks(y_span, panel.log_y):
        y = place_y(value)
        parts.append(_rule(LEFT, y, right, y, colors.grid))
        parts.append(_text(LEFT - 6, y + 4, number(value), colors.muted, anchor="end", size=11))
    for value in ticks(x_span, panel.log_x) if panel.x_ticks is None else panel.x_ticks:
        x = place_x(value)
        parts.append(_rule(x, bottom, x, bottom + 4, colors.line))
        parts.append(_text(x, bottom + 17, number(value), colors.muted, anchor="middle", size=11))
    parts.append(_rule(LEFT, bottom, right, bottom, colors.line))
    parts.append(_rule(LEFT, TOP, LEFT, bottom, colors.line))
    middle = (LEFT + right) / 2
    parts.append(_text(middle, bottom + 34, panel.x_title, colors.ink, anchor="middle"))
    parts.append(
        f'<text transform="translate(12 {_n((TOP + bottom) / 2)}) rotate(-90)" text-anchor="middle" '
        f'fill="{colors.ink}">{escape(panel.y_title)}</text>'
    )
    for line in panel.lines:
        parts += _line(line, place_x, place_y)
    return parts


def _legend(lines: Sequence[Line], top: float, width: float) -> list[str]:
    per_row = _per_row(lines, width)
    parts: list[str] = []
    for i, line in enumerate(lines):
        x = LEFT + (i % per_row) * ((width - LEFT) / per_row)
        y = top + LEGEND_ROW * (i // per_row)
        parts += _stroke([(x, y - 4), (x + 26, y - 4)], line)
        parts.append(_mark(x + 13, y - 4, line))
        parts.append(_text(x + 31, y, line.label, palette("light").ink, size=11))
    return parts


def _legend_height(lines: Sequence[Line], width: float) -> int:
    return LEGEND_ROW * math.ceil(len(lines) / _per_row(lines, width))


def _per_row(lines: Sequence[Line], width: float) -> int:
    # No font can be measured here; 6.4 px a character is generous at size 11.
    widest = max(len(line.label) for line in lines) * 6.4 + 42
    return max(1, int((width - LEFT) // widest))


def _line(line: Line, place_x: Place, place_y: Place) -> list[str]:
    points = [(place_x(x), place_y(y)) for x, y in zip(line.x, line.y, strict=True)]
    known = [p for p in points if math.isfinite(p[0]) and math.isfinite(p[1])]
    parts: list[str] = []
    if line.low is not None and line.high is not None:
        band = [
            (place_x(x), place_y(low), place_y(high))
            for x, low, high in zip(line.x, line.low, line.high, strict=True)
            if math.isfinite(low) and math.isfinite(high)
        ]
        if band:
            edge = [(x, h) for x, _, h in band] + [(x, w) for x, w, _ in reversed(band)]
            parts.append(
                f'<polygon points="{_points(edge)}" fill="{line.color}" fill-opacity="0.09"/>'
            )
    for run in _runs(points):
        parts += _stroke(run, line)
    return [*parts, *(_mark(x, y, line) for x, y in known)]


def _runs(points: list[tuple[float, float]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if all(map(math.isfinite, point)):
            runs[-1].append(point)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if len(run) > 1]


def _stroke(points: list[tuple[float, float]], line: Line) -> list[str]:
    dash = DASH[line.dash]
    style = f' stroke-dasharray="{dash}"' if dash else ""
    return [
        f'<polyline points="{_points(points)}" fill="none" stroke="{line.color}" '
        f'stroke-width="1.8"{style}/>'
    ]


_SHAPES = {
    "square": [(-3.2, -3.2), (3.2, -3.2), (3.2, 3.2), (-3.2, 3.2)],
    "diamond": [(0, -4.4), (4.4, 0), (0, 4.4), (-4.4, 0)],
    "triangle-up": [(0, -4.2), (4, 3.2), (-4, 3.2)],
    "x": [(-4, -2.4), (-2.4, -4), (0, -1.6), (2.4, -4), (4, -2.4), (1.6, 0),
          (4, 2.4), (2.4, 4), (0, 1.6), (-2.4, 4), (-4, 2.4), (-1.6, 0)],
    "star": [(0, -4.6), (1.6, 0), (0, 4.6), (-1.6, 0)],
}  # fmt: skip


def _mark(x: float, y: float, line: Line) -> str:
    if line.symbol == "none":
        return ""
    if line.symbol not in _SHAPES:
        fill = "#ffffff" if line.symbol.endswith("open") else line.color
        return f'<circle cx="{_n(x)}" cy="{_n(y)}" r="3.2" fill="{fill}" stroke="{line.color}"/>'
    shape = [(x + dx, y + dy) for dx, dy in _SHAPES[line.symbol]]
    return f'<polygon points="{_points(shape)}" fill="{line.color}"/>'


def _values(panel: Panel, axis: str) -> list[float]:
    rows = [getattr(line, axis) for line in panel.lines]
    if axis == "y":
        rows += [b for line in panel.lines for b in (line.low, line.high) if b is not None]
    return [float(v) for row in rows for v in row]


def _rule(x1: float, y1: float, x2: float, y2: float, color: str) -> str:
    return (
        f'<line x1="{_n(x1)}" y1="{_n(y1)}" x2="{_n(x2)}" y2="{_n(y2)}" stroke="{color}" '
        'stroke-width="1"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    color: str,
    anchor: str = "start",
    size: int = 12,
    weight: str = "",
) -> str:
    bold = f' font-weight="{weight}"' if weight else ""
    return (
        f'<text x="{_n(x)}" y="{_n(y)}" text-anchor="{anchor}" font-size="{size}"{bold} '
        f'fill="{color}">{escape(text)}</text>'
    )


def _points(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_n(x)},{_n(y)}" for x, y in points)


def _n(value: float) -> str:
    return f"{value:.1f}"
