"""The document: tables and figures made from stored metrics files alone; no number in it is typed."""

from __future__ import annotations

import shutil
from pathlib import Path

from probes.reproduction.document.figures import figures
from probes.reproduction.document.page import page
from probes.reproduction.store import CONFIG, Metrics, write_text


def write(metrics: Metrics, path: str | Path) -> Path:
    """Write `path` (.md) and, beside it, a folder of its name with figures and the metrics they came from.

    Equal metrics give equal bytes. Errors: InputError where there are no metrics.
    """
    path = Path(path)
    folder = path.with_suffix("")
    stored = Metrics(folder / "metrics")
    if metrics.folder.resolve() != stored.folder.resolve():
        _copy(metrics, stored)
    drawn = figures(stored)
    for name, text in drawn.items():
        write_text(folder / name, text)
    for old in folder.glob("*.svg"):
        if old.name not in drawn:
            old.unlink()
    write_text(path, page(stored, set(drawn), folder.name))
    return path


def _copy(metrics: Metrics, to: Metrics) -> None:
    """What the configuration names, and nothing of an earlier document."""
    content = (metrics.folder / CONFIG).read_text(encoding="utf-8") if metrics.config() else ""
    shutil.rmtree(to.folder, ignore_errors=True)
    for family in metrics.families():
        for file in sorted((metrics.folder / family).glob("*.json")):
            write_text(to.folder / family / file.name, file.read_text(encoding="utf-8"))
    write_text(to.folder / CONFIG, content)
