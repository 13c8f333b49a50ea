"""The one colour module: what each colour means, light and dark.

Sequential quantities in cividis, signed ones in a blue-to-vermillion map around the neutral value,
categories in Okabe–Ito with dash and marker as a second sign, iterations in viridis, h_0 in grey.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from plotly.colors import sample_colorscale

from abbie_lens.errors import InputError

ROLES = {
    "trained": "trained weights",
    "control": "random weights",
    "shuffled": "trained weights, shuffled text",
}
"""What a legend or a panel calls those that `role` draws."""

Theme = str
"""Name of a palette: "light" or "dark"."""


@dataclass(frozen=True)
class Palette:
    """Colours of one theme."""

    template: str
    paper: str
    ink: str
    muted: str
    grid: str
    line: str
    neutral: str
    """Middle of the diverging map: "no difference", and visibly not the paper, which means undefined."""
    zero: str
    """Exactly 0 on a logarithmic scale: neither a colour of the map nor undefined."""
    h0: str
    """The Head's output, drawn apart from the iterations."""
    trained: str
    control: str
    shuffled: str
    """Trained weights on the same tokens in another order."""
    chosen: str
    """The one token that is picked out."""
    categories: tuple[str, ...]
    iterations: tuple[float, float]
    """Part of viridis that stands out from the paper."""


PALETTES: dict[str, Palette] = {
    "light": Palette(
        template="abbie",
        paper="#ffffff",
        ink="#1f2430",
        muted="#6b7280",
        grid="#e8eaee",
        line="#b9bec8",
        neutral="#e9eaee",
        zero="#d5d8de",
        h0="#7d8491",
        trained="#0072B2",
        control="#D55E00",
        shuffled="#009E73",
        chosen="#CC3399",
        categories=("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4b5160"),
        iterations=(0.0, 0.88),
    ),
    "dark": Palette(
        template="abbie_dark",
        paper="#0e1117",
        ink="#e6e9ef",
        muted="#9aa3b2",
        grid="#232936",
        line="#4a5263",
        neutral="#2a2f3a",
        zero="#343b49",
        h0="#9aa3b2",
        trained="#56B4E9",
        control="#E69F00",
        shuffled="#2fbf94",
        chosen="#ff7ac8",
        categories=("#56B4E9", "#E69F00", "#2fbf94", "#d993b9", "#e0703a", "#4d9fd6", "#c3c9d4"),
        iterations=(0.22, 1.0),
    ),
}

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot", "solid")
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star")
SEQUENTIAL = "cividis"


def palette(theme: Theme = "light") -> Palette:
    """Colours of `theme`. Errors: InputError naming those that exist."""
    if theme not in PALETTES:
        raise InputError(f"theme={theme!r}: expected one of {', '.join(PALETTES)}.")
    return PALETTES[theme]


def diverging(theme: Theme = "light") -> list[list[Any]]:
    """Signed quantities: blue below, vermillion above, the paper's neutral in the middle (zmid)."""
    low, high = ("#08519c", "#a63603") if theme == "light" else ("#7fc4ff", "#ff9d5c")
    low_mid, high_mid = ("#6baed6", "#fd8d3c") if theme == "light" else ("#2f6ea5", "#a8562a")
    middle = palette(theme).neutral
    return [[0.0, low], [0.25, low_mid], [0.5, middle], [0.75, high_mid], [1.0, high]]


def iteration_colors(n: int, theme: Theme = "light") -> list[str]:
    """n colours for iterations 1…n (h_0 has its own, `palette().h0`)."""
    low, high = palette(theme).iterations
    points = [low + (high - low) * i / max(n - 1, 1) for i in range(n)]
    return [str(color) for color in sample_colorscale("Viridis", points)]


def series(i: int, theme: Theme = "light") -> dict[str, Any]:
    """Look of the i-th category: {"color", "dash", "symbol"}, never colour alone."""
    colors = palette(theme).categories
    return {
        "color": colors[i % len(colors)],
        "dash": DASHES[i % len(DASHES)],
        "symbol": MARKERS[i % len(MARKERS)],
    }


def role(
    name: Literal["trained", "control", "shuffled", "h0"], theme: Theme = "light"
) -> dict[str, Any]:
    """Look of the trained model, of its random-initialisation control, of it on shuffled text, or of h_0."""
    colors = palette(theme)
    return {
        "trained": {"color": colors.trained, "dash": "solid", "symbol": "circle"},
        "control": {"color": colors.control, "dash": "dash", "symbol": "square-open"},
        "shuffled": {"color": colors.shuffled, "dash": "dot", "symbol": "diamond-open"},
        "h0": {"color": colors.h0, "dash": "dot", "symbol": "circle-open"},
    }[name]


def rgba(color: str, alpha: float) -> str:
    """A "#rrggbb" colour with opacity, for bands."""
    r, g, b = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({r},{g},{b},{alpha})"
