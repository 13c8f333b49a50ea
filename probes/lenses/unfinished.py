"""Progress of a fit that may be stopped: in a hidden folder beside the one that it is to fill."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from abbie_lens.errors import CheckpointError, ExistsError
from abbie_lens.files.plain_json import read_object, write_object

_RUN = "run.json"


class Unfinished:
    """Keeps tensors and facts of a run; without `out` it keeps nothing.

    Errors: ExistsError for a folder that is there, or an unfinished run without `resume`; CheckpointError for one that
    was begun otherwise.
    """

    def __init__(self, out: Path | None, begun: Mapping[str, Any], resume: bool) -> None:
        self.folder = None if out is None else out.with_name(f".{out.name}.unfinished")
        self.begun = dict(begun)
        if out is None or self.folder is None:
            return
        if out.exists():
            raise ExistsError(f"out={str(out)!r} exists; choose another folder.")
        if not self.folder.exists():
            return
        if not resume:
            raise ExistsError(
                f"out={str(out)!r}: an unfinished run is there; go on with resume (--resume), or remove {self.folder}."
            )
        if (self.folder / _RUN).exists() and read_object(self.folder / _RUN).get(
            "begun"
        ) != self.begun:
            raise CheckpointError(
                f"{self.folder}: an unfinished run of other settings, or another model."
            )

    def save(self, tensors: Mapping[str, Tensor], facts: Mapping[str, Any], number: int) -> None:
        """The file of tensors first, then the one that names it: a kill in between loses nothing."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        name = f"at-{number}.safetensors"
        plain = {key: t.detach().cpu().clone().contiguous() for key, t in tensors.items()}
        save_file(plain, self.folder / name)
        write_object(self.folder / _RUN, {"begun": self.begun, "file": name, **facts})
        for stale in self.folder.glob("at-*.safetensors"):
            if stale.name != name:
                stale.unlink()

    def load(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """What was kept last, on the CPU; None where nothing was."""
        if self.folder is None or not (self.folder / _RUN).exists():
            return None
        facts = read_object(self.folder / _RUN)
        try:
            return load_file(self.folder / Path(str(facts["file"])).name), facts
        except (OSError, KeyError, SafetensorError) as error:
            raise CheckpointError(f"{self.folder}: no whole run ({error}).") from error

    def drop(self) -> None:
        """The run is done."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
