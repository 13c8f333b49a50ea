"""`python -m docs.site.figures [PAGE ...]`: run the lines that pages show, and store the figures they make.

A page's figures are in `docs/figures/PAGE.json`, those of the loop families in `docs/figures/families.json`: a list
of `{"call", "light", "dark"}`, the line and what it drew in either theme, as Plotly's JSON.
"""

from __future__ import annotations

import ast
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from docs.site.calls import PYTHON, figure_calls, unknown_names

DOCS = Path(__file__).resolve().parents[1]
FIGURES = DOCS / "figures"
PAGES = (
    "index",
    "iteration-axis",
    "dynamics",
    "lenses",
    "attribution",
    "interventions",
    "probing",
    "halting",
)


def main(names: list[str]) -> None:
    """Run the pages of these names, or all, and the families."""
    FIGURES.mkdir(exist_ok=True)
    for name in names or [*PAGES, "families"]:
        print(f"{name} …", flush=True)
        if name == "families":
            from docs.site.family_runs import family_figures

            found = family_figures()
        else:
            found = page_figures((DOCS / f"{name}.md").read_text(encoding="utf-8"))
        text = json.dumps(found, ensure_ascii=False, separators=(",", ":"))
        (FIGURES / f"{name}.json").write_text(text + "\n", encoding="utf-8")


def page_figures(page: str) -> list[dict[str, Any]]:
    """What the blocks of a page draw, run one after the other in a folder that is thrown away."""
    found, scope = [], {}
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            for source in PYTHON.findall(page):
                if not unknown_names(source, scope):
                    found += run(source, scope)
        finally:
            os.chdir(here)
    return found


def run(source: str, scope: dict) -> list[dict[str, Any]]:
    """Run a block line by line; figures are drawn in both themes in the place of their own."""
    found = []
    for line in ast.parse(source).body:
        calls = figure_calls(ast.unparse(line))
        if not calls:
            exec(compile(ast.Module([line], []), "page", "exec"), scope)
        for call in calls:
            found.append({"call": ast.unparse(call)} | drawn(call, scope))
    return found


def drawn(call: ast.Call, scope: dict) -> dict[str, Any]:
    """`{"light", "dark"}` of one call, whose result is computed once."""
    scope["_result"] = eval(ast.unparse(call.func.value), scope)  # type: ignore[attr-defined]
    options = ", ".join(map(ast.unparse, [*call.args, *call.keywords]))
    return {
        theme: plain(
            eval(f"_result.figure({options + ', ' if options else ''}theme={theme!r})", scope)
        )
        for theme in ("light", "dark")
    }


def plain(figure: Any) -> dict[str, Any]:
    """A figure as Plotly's JSON."""
    return json.loads(figure.to_json())


if __name__ == "__main__":
    main(sys.argv[1:])
