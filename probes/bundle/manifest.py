"""The manifest: what a bundle holds, who made it, and the checksums that tell a damaged file."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from abbie_lens.errors import InputError
from probes.bundle.places import inside
from probes.result import Result

FORMAT, SCHEMA_VERSION, FILE = "abbie-lens bundle", 2, "manifest.json"
LIBRARIES = ("abbie-lens", "torch", "numpy", "pandas", "scikit-learn", "plotly", "safetensors")


def build(results: Mapping[str, Result], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Everything but the files: format, models, prompts, settings, versions, formulas.

    Errors: InputError for settings that are not JSON.
    """
    try:
        settings = json.loads(json.dumps(dict(settings), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(f"settings: expected plain JSON values; {error}.") from None
    models, prompts = [], []
    for result in results.values():
        model, prompt = result.model.to_dict(), [list(row) for row in result.tokens]
        models += [model] if model not in models else []
        prompts += [prompt] if prompt not in prompts else []
    return {
        "format": FORMAT,
        "schema_version": SCHEMA_VERSION,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "models": models,
        "tokens": prompts,
        "settings": settings,
        "versions": versions(),
        "results": {},
        "states": None,
        "files": {},
    }


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that numbers depend on."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def checksums(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and SHA-256 of every file in a folder, by its path inside."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in files
    }


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a bundle, its version checked.

    Errors: InputError if the folder is no bundle, or of a version that this program cannot read.
    """
    if not folder.is_dir():
        raise InputError(f"path={str(folder)!r}: no such folder.")
    try:
        manifest = json.loads(inside(folder, FILE).read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"bundle {str(folder)!r}: {FILE} is damaged ({error}).") from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise InputError(f"path={str(folder)!r}: not an {FORMAT}.")
    version = manifest.get("schema_version")
    if version != SCHEMA_VERSION:
        raise InputError(
            f"bundle {str(folder)!r}: schema version {version!r}; this program reads"
            f" {SCHEMA_VERSION}. {_remedy(version)}"
        )
    for key, kind in (("results", dict), ("files", dict)):
        if not isinstance(manifest.get(key), kind):
            raise InputError(f"bundle {str(folder)!r}: {FILE} has no {key!r}.")
    return manifest


def _remedy(version: object) -> str:
    if isinstance(version, int) and version < SCHEMA_VERSION:
        return "It was written before; write it again with abbie-lens diagnose, its report.html still opens."
    return "It was written by a later version: update abbie-lens."


def check_files(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Errors: InputError naming the first file that is missing, truncated or changed."""
    for relative, expected in manifest["files"].items():
        path = inside(folder, relative)
        if not isinstance(expected, dict):
            raise InputError(f"bundle {str(folder)!r}: {FILE} says nothing about {relative!r}.")
        size = path.stat().st_size
        if size != expected.get("bytes"):
            raise InputError(
                f"bundle {str(folder)!r}: {relative!r} has {size} bytes, {expected.get('bytes')} were"
                " written: it is truncated or changed."
            )
        if _sha256(path) != expected.get("sha256"):
            raise InputError(f"bundle {str(folder)!r}: {relative!r} is not what was written.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
