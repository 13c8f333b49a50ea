"""Names and paths of a bundle: everything stays inside its folder, on save and on load."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from abbie_lens.errors import InputError

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
# Names that some system reads as a device, whatever their suffix.
_RESERVED = {"con", "prn", "aux", "nul", *(f"{d}{i}" for d in ("com", "lpt") for i in range(1, 10))}
_LONGEST = 60


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """A file name for every result name: plain ASCII, no separators, no two equal in any case."""
    stems: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        stem = _UNSAFE.sub("-", name).strip("-")[:_LONGEST] or "result"
        stem = f"{stem}_" if stem.lower() in _RESERVED else stem
        unique, n = stem, 1
        while unique.lower() in used:
            n += 1
            unique = f"{stem}-{n}"
        used.add(unique.lower())
        stems[name] = unique
    return stems


def inside(folder: Path, relative: object) -> Path:
    """The regular file `relative` of a bundle. Errors: InputError for a path that is absolute, leaves
    the folder, passes a symbolic link, or is no file."""
    if not isinstance(relative, str) or not relative:
        raise InputError(f"manifest of {str(folder)!r}: {relative!r} is no file name.")
    pure = PurePosixPath(relative)
    if (
        pure.is_absolute()
        or ".." in pure.parts
        or "\\" in relative
        or ":" in relative
        or "\0" in relative
    ):
        raise InputError(f"manifest of {str(folder)!r}: {relative!r} leads outside the bundle.")
    path = folder
    for part in pure.parts:
        path = path / part
        if path.is_symlink():
            raise InputError(f"bundle {str(folder)!r}: {relative!r} is a symbolic link; refused.")
    if not path.is_file():
        raise InputError(f"bundle {str(folder)!r}: {relative!r} is missing.")
    return path
