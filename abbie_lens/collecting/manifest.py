"""manifest.json: what a collection holds, from which model and text, and whether it is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from abbie_lens.errors import CheckpointError, ExistsError, InputError
from abbie_lens.files.plain_json import read_object, write_object

FORMAT = "abbie-lens-collection-1"
NAME = "manifest.json"


def read(folder: Path) -> dict[str, Any]:
    """The manifest. Errors: CheckpointError where there is none, or it is not one of ours."""
    if not (folder / NAME).is_file():
        raise CheckpointError(f"{folder}: is no collection; it has no {NAME}.")
    found = read_object(folder / NAME)
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"{folder}: format {found.get('format')!r}; this version reads {FORMAT}."
        )
    return found


def write(folder: Path, manifest: dict[str, Any]) -> None:
    """Whole or not at all."""
    write_object(folder / NAME, {"format": FORMAT, **manifest})


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
    for part, values in manifest.items():
        if not isinstance(values, dict) or part == "rows":
            continue
        for name in before.get(part, {}).keys() | values.keys():
            was, now = before.get(part, {}).get(name), values.get(name)
            if was != now:
                raise InputError(
                    f"out={str(folder)!r} was begun with {part} {name}={was!r}, this run has {now!r}."
                )
