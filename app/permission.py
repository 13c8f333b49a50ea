"""Which models a visitor of the dashboard may name: hub ids, and folders below the root the server was started with."""

from __future__ import annotations

from pathlib import Path

from abbie_lens.errors import CheckpointError
from abbie_lens.files import hub


def resolve(asked: str, root: Path) -> str:
    """The full path of a folder below `root`, links followed; a hub id as it is.

    A relative folder is one below `root`. Errors: CheckpointError for what is neither. What lies outside is refused before
    it is looked at, so that the answer does not tell whether it is there.
    """
    root = root.resolve()
    try:
        at = (root / Path(asked).expanduser()).resolve()
        there = at.is_relative_to(root) and at.is_dir()
        if there and (out := _leading_out(at, root)):
            raise CheckpointError(f"{asked}: its {out} is a link to what lies outside {root}.")
    except (OSError, RuntimeError, ValueError):  # too long, a loop of links, a null character
        raise CheckpointError(f"{asked!r}: not a path of a folder, nor a hub id.") from None
    if there:
        return str(at)
    if hub.is_hub_id(asked):
        return asked
    if not at.is_relative_to(root):
        raise CheckpointError(
            f"{asked}: outside {root}, below which this dashboard may read (abbie-lens app --root DIR)."
        )
    raise CheckpointError(
        f"{asked}: no such folder; expected one with config.json, or a hub id (org/model)."
    )


def _leading_out(folder: Path, root: Path) -> str | None:
    """The name of a file in a folder that is a link to somewhere outside `root`."""
    for file in folder.iterdir():
        if file.is_symlink() and not file.resolve().is_relative_to(root):
            return file.name
    return None
