"""MkDocs hooks: pages that are made of the source, and the figures that the lines of a page draw."""

from __future__ import annotations

import ast
import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files
from plotly.offline import get_plotlyjs

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from docs.site import notebook_pages, reference  # noqa: E402
from docs.site.calls import PYTHON, figure_calls  # noqa: E402
from docs.site.embed import embedded  # noqa: E402

log = logging.getLogger("mkdocs.hooks.abbie_lens")
FIGURES = ROOT / "docs/figures"
OUTSIDE = ("RESULTS.md", "CONTRIBUTING.md")


def on_files(files: Files, config: Any) -> Files:
    """Add what is made: notebooks, families, API, the documents at the root, plotly.js once."""
    made: dict[str, str] = {name: (ROOT / name).read_text(encoding="utf-8") for name in OUTSIDE}
    made["families.md"] = reference.families_page()
    made["assets/plotly.min.js"] = get_plotlyjs()
    for name, (title, packages) in reference.API.items():
        made[name] = reference.api_page(title, packages)
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        made[f"notebooks/{path.stem}.md"] = notebook_pages.page(path)
    for name, content in made.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Links out of docs/ lead to the made pages; after a block of Python comes what its lines draw."""
    name = page.file.src_uri
    up = "../" * name.count("/")
    if name.startswith("notebooks/"):
        markdown = re.sub(r"\]\(\.\./docs/", "](../", markdown)
    elif name in OUTSIDE:
        markdown = re.sub(r"\]\(docs/", "](", markdown)
    else:
        markdown = re.sub(
            rf"\]\({up}\.\./notebooks/(\w+)\.ipynb", rf"]({up}notebooks/\1.md", markdown
        )
        markdown = re.sub(rf"\]\({up}\.\./({'|'.join(OUTSIDE)})", rf"]({up}\1", markdown)
    stored = FIGURES / f"{page.file.src_uri.removesuffix('.md')}.json"
    if name == "families.md" or not stored.exists():
        return markdown
    waiting = json.loads(stored.read_text(encoding="utf-8"))

    def with_figures(block: re.Match[str]) -> str:
        text = block.group(0)
        for call in map(ast.unparse, figure_calls(block.group(1))):
            found = next((figure for figure in waiting if figure["call"] == call), None)
            if found is None:
                log.warning(
                    f"{name}: {call} has no stored figure: run `python -m docs.site.figures {page.file.name}`."
                )
                continue
            waiting.remove(found)
            text += embedded(found["light"], found["dark"])
        return text

    return PYTHON.sub(with_figures, markdown)
