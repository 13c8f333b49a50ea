"""Which figures the Python blocks of a page make: every call of `.figure(...)` that they show, in order."""

from __future__ import annotations

import ast
import builtins
import re

PYTHON = re.compile(r"^```python\n(.*?)^```\n?", re.DOTALL | re.MULTILINE)


def figure_calls(source: str) -> list[ast.Call]:
    """The calls of `.figure(...)` in a block, in the order in which they are written."""
    found = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "figure"
    ]
    return sorted(found, key=lambda node: (node.lineno, node.col_offset))


def unknown_names(source: str, scope: dict) -> set[str]:
    """Names that a block reads and nobody has set: arrays that are the reader's own."""
    read, known = set(), set(scope) | set(dir(builtins))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Name):
            (read if isinstance(node.ctx, ast.Load) else known).add(node.id)
        elif isinstance(node, ast.alias):
            known.add((node.asname or node.name).split(".")[0])
        elif isinstance(node, ast.arg):
            known.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
    return read - known
