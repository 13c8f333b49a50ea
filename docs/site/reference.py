"""Pages that are read off the source: loop families by their docstrings, and the API by what packages export."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from docs.site.embed import embedded

ROOT = Path(__file__).resolve().parents[2]
FIGURES = ROOT / "docs/figures"

API = {
    "api/abbie_lens.md": ("Models", ["abbie_lens"]),
    "api/probes.md": ("Analyses", ["probes"]),
    "api/halting.md": ("Halting", ["abbie_lens.halting"]),
    "api/loops.md": ("Loop families", ["abbie_lens.loops"]),
}


def families_page() -> str:
    """Every loop family: its file's docstring, and a figure of each class in it. Errors: ValueError without one."""
    text = (FIGURES / "families.json").read_text(encoding="utf-8")
    stored = {figure["call"]: figure for figure in json.loads(text)}
    parts = [_INTRODUCTION]
    for file in sorted((ROOT / "abbie_lens/loops").glob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        names = [name for node in tree.body if (name := _family(node))]
        if not names:
            continue
        first, _, rest = (ast.get_docstring(tree) or "").partition("\n")
        parts.append(
            f"## {' / '.join(f'`{name}`' for name in names)}\n\n{first}\n\n{rest.strip(chr(10))}"
        )
        for name in names:
            if name not in stored:
                raise ValueError(
                    f"loop family {name!r} has no figure: run `python -m docs.site.figures families`."
                )
            parts.append(_run(stored[name]))
    return "\n\n".join(parts) + "\n"


_INTRODUCTION = """# Loop families

One file each in `abbie_lens/loops/`, whose docstring, given here, has the equation. h_k is the state that iteration k reads, z_k
what is read out if the loop stops there; where nothing is said, z_k = h_k. B is the Body, E the embedding, N a norm. Each
figure is a real run and shows how far a state is from the next, in the four ways of [dynamics](dynamics.md):
of a bundled model where there is one, else of small random weights, which show the equation's own drift and nothing learnt.
`abbie-lens models --loops` lists the families with their settings; [add a family](add-a-family.md) says how there is one more."""


def _family(node: ast.stmt) -> str | None:
    """The tag of a loop family, where `node` is the class of one."""
    for line in getattr(node, "body", ()) if isinstance(node, ast.ClassDef) else ():
        if isinstance(line, ast.AnnAssign) and ast.unparse(line.target) == "family":
            return ast.literal_eval(line.value) if line.value else None
    return None


def _run(figure: dict[str, Any]) -> str:
    model = figure["model"]
    who = f"the bundled model `{model}`" if model else "a small model with random weights"
    return f"`{figure['call']}`, {who}:\n" + embedded(figure["light"], figure["dark"])


def api_page(title: str, packages: list[str]) -> str:
    """Everything that the packages export, by their docstrings."""
    parts = [f"# {title}"]
    for package in packages:
        folder = ROOT / package.replace(".", "/")
        parts.append(
            ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))) or ""
        )
        # What is called before what it returns.
        names = sorted(_exports(folder / "__init__.py"), key=lambda name: name[0].isupper())
        parts += [f"::: {package}.{name}" for name in names]
    return "\n\n".join(parts) + "\n"


def _exports(file: Path) -> list[str]:
    """The names of `__all__` that are functions or classes."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    imported = {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            # modules that are handed on as they are (`from probes import bundle`) have pages of their own
            package = ".".join(file.parent.relative_to(ROOT).parts)
            return [n for n in ast.literal_eval(node.value) if imported.get(n) != package]
    raise ValueError(f"{file}: no __all__ to list.")
