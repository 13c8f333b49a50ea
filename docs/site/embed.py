"""Plotly figures as parts of a page: their JSON, drawn by the one copy of plotly.js that the site has, and words for them."""

from __future__ import annotations

import html
import itertools
import json
import re
from typing import Any

_numbers = itertools.count()
TAG = re.compile(r"<[^>]*>")


def embedded(light: dict[str, Any], dark: dict[str, Any] | None = None) -> str:
    """HTML of a figure; `dark` is the same for the dark theme."""
    number = next(_numbers)
    themes = {"light": light} | ({"dark": dark} if dark else {})
    data = "".join(
        f'<script type="application/json" id="figure-{number}-{theme}">{_script(figure)}</script>'
        for theme, figure in themes.items()
    )
    places = " ".join(f'data-{theme}="figure-{number}-{theme}"' for theme in themes)
    words = html.escape(described(light))
    height = light["layout"].get("height") or 420
    style = f"height: {int(height)}px"
    return f'\n<div class="figure" role="img" aria-label="{words}" style="{style}" {places}></div>{data}\n'


def described(figure: dict[str, Any]) -> str:
    """What a figure says of itself in words: title, subtitle, and the notes under it."""
    title = figure["layout"].get("title", {})
    notes = [
        note["text"]
        for note in figure["layout"].get("annotations", ())
        if note.get("name") == "caption"
    ]
    parts = [title.get("text", "Figure"), title.get("subtitle", {}).get("text", ""), *notes]
    plain = [html.unescape(TAG.sub(" ", part)).strip() for part in parts if part]
    return " – ".join(" ".join(part.split()) for part in plain if part)


def _script(figure: dict[str, Any]) -> str:
    # "</script" in a token must not end the element; in JSON, < may always be written so.
    return json.dumps(figure, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
