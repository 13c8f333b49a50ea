"""Fitted probes: kept in a folder as safetensors and JSON, and read again without refitting."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from abbie_lens.errors import ExistsError, InputError
from abbie_lens.info import ModelInfo
from probes.probing.probe import Probe
from probes.probing.targets import KINDS, Kind

if TYPE_CHECKING:
    from probes.probing.overlay import ProbeOverlay

FORMAT, VERSION = "abbie-lens probes", 1
ABOUT, VALUES = "probes.json", "probes.safetensors"
_PARTS = ("mean", "scale", "coef", "intercept")


@dataclass(frozen=True)
class FittedProbes:
    """Probes of one label, by the address of what they read."""

    model: ModelInfo
    """The model whose states they were fitted on."""
    label: str
    description: str
    n_iters: int
    probes: dict[str, Probe]
    """By address, `loop.hook_state@3`; a bare name outside the loop."""

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write a folder with probes.json and probes.safetensors; it appears whole or not at all.

        Errors: ExistsError if `path` exists and `overwrite` is false, or is something else than probes.
        """
        path = Path(path)
        if path.exists() and (not overwrite or not (path / ABOUT).is_file()):
            raise ExistsError(
                f"path={str(path)!r} exists; overwrite=True replaces saved probes only."
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        any_probe = next(iter(self.probes.values()), None)
        about = {
            "format": FORMAT,
            "version": VERSION,
            "model": self.model.to_dict(),
            "label": self.label,
            "description": self.description,
            "n_iters": self.n_iters,
            "kind": any_probe.kind if any_probe else "classes",
            "classes": list(any_probe.classes) if any_probe else [],
        }
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as scratch:
            folder = Path(scratch) / "probes"
            folder.mkdir()
            save_file(packed(self.probes), folder / VALUES)
            (folder / ABOUT).write_text(json.dumps(about, indent=1, allow_nan=False), "utf-8")
            if path.exists():
                shutil.rmtree(path)
            os.replace(folder, path)
        return path

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> FittedProbes:
        """The probes in folder `path`. Errors: InputError for a folder that is none, or is damaged."""
        folder = Path(path)
        try:
            about = json.loads((folder / ABOUT).read_text("utf-8"))
            arrays = load_file(folder / VALUES)
        except (OSError, ValueError, SafetensorError) as error:
            raise InputError(f"path={str(path)!r}: no saved probes ({error}).") from None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise InputError(f"path={str(path)!r}: {ABOUT} is not of {FORMAT}.")
        if about.get("version") != VERSION:
            raise InputError(
                f"path={str(path)!r}: version {about.get('version')!r}; this program reads {VERSION}."
            )
        try:
            if about["kind"] not in KINDS:
                raise ValueError(f"kind {about['kind']!r}")
            return cls(
                ModelInfo(**about["model"]),
                str(about["label"]),
                str(about["description"]),
                int(about["n_iters"]),
                unpacked(arrays, about["kind"], tuple(str(c) for c in about["classes"])),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"path={str(path)!r}: damaged ({error}).") from None

    def predict_on(self, model: Any, text: Any, **given: Any) -> ProbeOverlay:
        """What these probes say of every token of a prompt, by site and iteration.

        given: of `overlay`. Errors: InputError for a model with other widths or without the sites.
        """
        from probes.probing.overlay import overlay

        return overlay(self, model, text, **given)


def packed(probes: Mapping[str, Probe]) -> dict[str, np.ndarray]:
    """Arrays of probes, keyed address/part."""
    return {
        f"{address}/{part}": np.ascontiguousarray(getattr(probe, part))
        for address, probe in probes.items()
        for part in _PARTS
    }


def unpacked(
    arrays: Mapping[str, np.ndarray], kind: Kind, classes: tuple[str, ...]
) -> dict[str, Probe]:
    """Inverse of `packed`. Errors: ValueError for arrays that are no probes."""
    found: dict[str, Probe] = {}
    columns = 1 if kind == "classes" and len(classes) == 2 else len(classes)
    for address in dict.fromkeys(key.rpartition("/")[0] for key in arrays):
        try:
            parts = {part: np.asarray(arrays[f"{address}/{part}"]) for part in _PARTS}
        except KeyError as error:
            raise ValueError(f"{error} is missing") from None
        width = parts["mean"].shape[-1]
        shapes = {
            "mean": (width,),
            "scale": (width,),
            "coef": (columns, width),
            "intercept": (columns,),
        }
        for part, shape in shapes.items():
            if parts[part].shape != shape:
                raise ValueError(f"{address}/{part} has shape {parts[part].shape}, not {shape}")
        found[address] = Probe(kind, classes, **parts)
    return found
