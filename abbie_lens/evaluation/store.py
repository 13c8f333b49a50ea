"""The file of a run: one JSON document, rewritten whole after each depth, that a later run continues."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from abbie_lens.errors import InputError
from abbie_lens.evaluation.records import DepthScores

FORMAT = "abbie-lens eval 1"


class ScoreFile:
    """Scores by depth under one identity (`Evaluator.identity`), on disk as soon as they are there."""

    def __init__(
        self, path: str | os.PathLike[str], identity: dict[str, Any], model: dict[str, Any]
    ) -> None:
        """A new run's file; nothing is written before the first depth is."""
        self.path = Path(path)
        self.identity = json.loads(json.dumps(identity))
        self.model = model
        self.depths: dict[int, DepthScores] = {}

    def resume(self) -> None:
        """Take over what the file holds, if it is there.

        Errors: InputError for a file that is not one of ours, or one of another run: what differs is named.
        """
        if not self.path.exists():
            return
        held = _read(self.path)
        theirs = held["identity"]
        names = [*self.identity, *(n for n in theirs if n not in self.identity)]
        differ = [name for name in names if theirs.get(name) != self.identity.get(name)]
        if differ:
            raise InputError(
                f"out={str(self.path)!r}: holds another run ({', '.join(differ)} differ); "
                "name another file, or repeat that run."
            )
        self.depths = {d.n_iters: d for d in map(DepthScores.from_dict, held["depths"])}

    def add(self, scores: DepthScores) -> None:
        """Keep one depth; the file is whole before and after."""
        self.depths[scores.n_iters] = scores
        depths = [self.depths[r].to_dict() for r in sorted(self.depths)]
        content = {
            "format": FORMAT,
            "model": self.model,
            "identity": self.identity,
            "depths": depths,
        }
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.path.parent, prefix=".partial-") as folder:
            partial = Path(folder) / self.path.name
            partial.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", "utf-8")
            os.replace(partial, self.path)


def _read(path: Path) -> dict[str, Any]:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(f"out={str(path)!r}: not JSON ({error}).") from None
    if not isinstance(held, dict) or held.get("format") != FORMAT:
        raise InputError(f"out={str(path)!r}: not a file of abbie-lens eval.")
    return held
