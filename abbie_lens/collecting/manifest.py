"""manifest.json: what a collection holds, from which model and text, and whether it is complete."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from abbie_lens.errors import CheckpointError, ExistsError, InputError

FORMAT = "abbie-lens-collection-1"
NAME = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
    """The manifest. Errors: CheckpointError where there is none, or it is not one of ours."""
    try:
        manifest = json.loads((folder / NAME).read_text("utf-8"))
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r}, expected {FORMAT}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{folder}: is no collection ({error}).") from error
    return manifest


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Whole or not at all."""
    partial = folder / f".{NAME}.{os.getpid()}"
    partial.write_text(json.dumps({"format": FORMAT, **manifest}, indent=2), "utf-8")
    os.replace(partial, folder / NAME)


def begin(folder: Path, manifest: dict[str, Any], resume: bool) -> None:
    """Start a collection in the folder, or see that the one there was begun alike.

    Errors: ExistsError for a folder that holds something and no `resume`; InputError for one begun otherwise.
    """
    if not (folder / NAME).exists():
        if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
            raise ExistsError(
                f"out={str(folder)!r} exists and is no collection; choose another folder."
            )
        folder.mkdir(parents=True, exist_ok=True)
        write(folder, manifest)
        return
    if not resume:
        raise ExistsError(
            f"out={str(folder)!r} holds a collection; go on with resume, or choose another folder."
        )
    before = read(folder)
    for part in ("settings", "model", "text"):
        for name in before[part].keys() | manifest[part].keys():
            was, now = before[part].get(name), manifest[part].get(name)
            if was != now:
                raise InputError(
                    f"out={str(folder)!r} was begun with {part} {name}={was!r}, this run has {now!r}."
                )
