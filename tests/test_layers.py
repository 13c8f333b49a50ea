"""Imports point one way: app -> probes -> abbie_lens. Imports inside functions count too."""

import ast
from pathlib import Path

import pytest

MAY_IMPORT = {
    "abbie_lens": {"abbie_lens"},
    "probes": {"abbie_lens", "probes"},
    "app": {"abbie_lens", "probes", "app"},
}
LOADERS = {"import_module", "__import__"}


def imported_modules(source: str, package: str) -> set[str]:
    """Full names of all modules that `source`, a module inside `package`, imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            found.add(".".join([*base, node.module] if node.module else base))
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module)
        elif isinstance(node, ast.Call) and node.args:
            function = node.func
            name = getattr(function, "attr", None) or getattr(function, "id", None)
            first = node.args[0]
            if name in LOADERS and isinstance(first, ast.Constant) and isinstance(first.value, str):
                found.add(first.value)
    return found


def forbidden_imports(source: str, package: str) -> set[str]:
    layer = package.split(".")[0]
    return {
        module
        for module in imported_modules(source, package)
        if (top := module.split(".")[0]) in MAY_IMPORT and top not in MAY_IMPORT[layer]
    }


@pytest.mark.parametrize("layer", MAY_IMPORT)
def test_imports_point_one_way(layer: str, project_root: Path) -> None:
    files = sorted((project_root / layer).rglob("*.py"))
    assert files, f"{layer}/ has no Python files"
    wrong = {}
    for file in files:
        package = ".".join(file.relative_to(project_root).parent.parts)
        if found := forbidden_imports(file.read_text(encoding="utf-8"), package):
            wrong[str(file.relative_to(project_root))] = found
    assert not wrong


@pytest.mark.parametrize(
    "source",
    [
        "import probes",
        "import probes.figures as f",
        "from probes import lens",
        "def f():\n    from app.cli import main",
        "import importlib\nimportlib.import_module('probes.lenses')",
        "from ...probes import lens",
    ],
)
def test_the_check_sees_every_way_to_import(source: str) -> None:
    assert forbidden_imports(source, "abbie_lens.files")


@pytest.mark.parametrize("source", ["from . import x", "from ..errors import E", "import torch"])
def test_the_check_allows_the_rest(source: str) -> None:
    assert not forbidden_imports(source, "abbie_lens.files")
