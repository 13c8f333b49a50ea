"""What a screen reader says of a figure: its title, what it shows, its axes and formulas, from the figure itself."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator

import plotly.graph_objects as go

_TAG = re.compile(r"<[^>]*>")


def text(figure: go.Figure, name: str) -> str:
    """Name, title, subtitle, axes and notes of a figure, each said once, without their markup."""
    return ". ".join(dict.fromkeys(part for part in (name, *_parts(figure)) if part))


def _parts(figure: go.Figure) -> Iterator[str]:
    layout = figure.to_dict().get("layout", {})
    title = layout.get("title", {})
    yield _plain(title.get("text"))
    yield _plain(title.get("subtitle", {}).get("text"))
    for letter, said in (("x", "Horizontal"), ("y", "Vertical")):
        axes = [layout[name] for name in layout if name.startswith(f"{letter}axis")]
        named = dict.fromkeys(_plain(axis.get("title", {}).get("text")) for axis in axes)
        if shown := ", ".join(name for name in named if name):
            yield f"{said}: {shown}"
    for note in layout.get("annotations", ()):
        yield _plain(note.get("text"))


def _plain(markup: str | None) -> str:
    """Plotly's markup as plain text; text of users was escaped in it and is not taken for markup."""
    return " ".join(html.unescape(_TAG.sub(" ", markup or "")).split())
