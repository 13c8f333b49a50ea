"""Models fetched to the user's data folder, by name; `abbie_lens.files.fetch` puts them there."""

from __future__ import annotations

from pathlib import Path

from abbie_lens import paths
from abbie_lens.errors import InputError, nearest
from abbie_lens.files.layout import CONFIG


def names() -> tuple[str, ...]:
    """Names of the models that are there, sorted. A fetch that was interrupted left none."""
    folder = paths.models()
    if not folder.is_dir():
        return ()
    there = (entry for entry in folder.iterdir() if not entry.name.startswith("."))
    return tuple(sorted(entry.name for entry in there if (entry / CONFIG).is_file()))


def path(name: str) -> Path:
    """Folder of an installed model, in the format of transformers. Errors: InputError with the nearest names."""
    if name not in names():
        raise InputError(f"name={name!r}: not installed.{nearest(name, names())}")
    return paths.models() / name
