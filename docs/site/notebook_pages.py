"""A notebook as a page: its text, its code, and what its stored run put out."""

from __future__ import annotations

import html
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docs.site.embed import embedded

FIGURE = "application/vnd.plotly.v1+json"


def page(path: Path) -> str:
    """Markdown of a notebook. Errors: ValueError where a code cell was never run."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    note = (
        f"*From `notebooks/{path.name}`; everything below the code is what its stored run put out.*"
    )
    return "\n\n".join([*_cells(notebook["cells"], path.name, note)]) + "\n"


def _cells(cells: list[dict[str, Any]], name: str, note: str) -> Iterator[str]:
    for number, cell in enumerate(cells):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            yield source
        elif source.strip():
            if cell.get("execution_count") is None:
                raise ValueError(f"{name}: cell {number} was never run; run `make notebooks`.")
            yield f"```python\n{source}\n```"
            yield from map(_output, cell["outputs"])
        if number == 0:
            yield note


def _output(output: dict[str, Any]) -> str:
    """The richest form that an output has."""
    if output["output_type"] == "stream":
        return _text("".join(output["text"]))
    data = output.get("data", {})
    if FIGURE in data:
        return embedded(data[FIGURE])
    if "text/markdown" in data:
        return "".join(data["text/markdown"])
    if "text/html" in data:
        return f'<div class="output">{"".join(data["text/html"])}</div>'
    return _text("".join(data.get("text/plain", output.get("traceback", []))))


def _text(text: str) -> str:
    return f'<pre class="output">{html.escape(text)}</pre>' if text.strip() else ""
