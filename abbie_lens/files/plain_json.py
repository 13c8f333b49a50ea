"""JSON objects in files of our own: read with one kind of error, written whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from abbie_lens.errors import CheckpointError


def read_object(file: Path) -> dict[str, Any]:
    """The object in a file. Errors: CheckpointError if it is missing, no JSON, or holds no object."""
    try:
        plain = json.loads(file.read_text("utf-8"))
    except FileNotFoundError as error:
        raise CheckpointError(f"{file}: no such file.") from error
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{file}: not JSON ({error}).") from error
    if not isinstance(plain, dict):
        raise CheckpointError(f"{file}: expected a JSON object, found {type(plain).__name__}.")
    return plain


def write_object(file: Path, content: dict[str, Any]) -> None:
    """Write an object to `file`; several processes may do so at once."""
    partial = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        partial.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        os.replace(partial, file)
    finally:
        partial.unlink(missing_ok=True)
