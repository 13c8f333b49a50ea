"""`python -m notebooks`: run every notebook and store what it puts out; a cell that raises stops it."""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

HERE = Path(__file__).resolve().parent
CELL_SECONDS = 1800


def executed(path: Path) -> NotebookNode:
    """The notebook after a run of all its cells, without times. Errors: CellExecutionError."""
    notebook = nbformat.read(path, as_version=4)
    where = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, record_timing=False, resources=where).execute()
    return notebook


def main() -> None:
    """Run and rewrite all."""
    for path in sorted(HERE.glob("*.ipynb")):
        print(f"{path.name} …", flush=True)
        nbformat.write(executed(path), path)


if __name__ == "__main__":
    main()
