"""metrics.jsonl: one JSON object a line, appended while training, cut back on resume."""

import json
import os
from pathlib import Path
from typing import Any


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; a line cut by a kill is left out."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                continue
    return rows


def truncate(path: Path, step: int) -> None:
    """Keep the lines up to `step`, so that a resumed run writes each step once."""
    kept = [row for row in read(path) if row["step"] <= step]
    partial = path.with_suffix(".tmp")
    partial.write_text("".join(json.dumps(row) + "\n" for row in kept), encoding="utf-8")
    os.replace(partial, path)


def append(path: Path, row: dict[str, Any]) -> None:
    """Add one line."""
    with open(path, "a", encoding="utf-8") as out:
        out.write(json.dumps(row) + "\n")
