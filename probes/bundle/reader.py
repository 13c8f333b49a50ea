"""Reading a bundle back to the same result objects, without the model."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file as load_tensors
from torch import Tensor

from abbie_lens.errors import InputError
from probes.bundle import manifest as manifests
from probes.bundle.places import inside
from probes.result import Result


@dataclass(frozen=True)
class Bundle:
    """What a bundle holds."""

    results: dict[str, Result]
    """The result objects, by the name they were saved under."""
    states: dict[str, Tensor]
    """States saved beside them; empty if none were."""
    manifest: dict[str, Any]
    """Format, models, prompts, settings, versions, formulas, checksums."""


def load(path: str | os.PathLike[str]) -> Bundle:
    """The bundle in folder `path`.

    Errors: InputError for a folder that is no bundle, another schema version, a file that is missing,
    truncated, changed, or outside the folder.
    """
    folder = Path(os.path.abspath(path))
    manifest = manifests.read(folder)
    manifests.check_files(folder, manifest)
    results = {name: _result(folder, name, entry) for name, entry in manifest["results"].items()}
    states: dict[str, Tensor] = {}
    if manifest.get("states") is not None:
        states = _tensors(load_tensors, inside(folder, manifest["states"]))
    return Bundle(results, states, manifest)


def _result(folder: Path, name: str, entry: Any) -> Result:
    if not isinstance(entry, dict) or not isinstance(entry.get("meta"), dict):
        raise InputError(f"bundle {str(folder)!r}: {manifests.FILE} does not describe {name!r}.")
    arrays: dict[str, np.ndarray] = _tensors(load_arrays, inside(folder, entry.get("arrays")))
    try:
        return Result.from_arrays(arrays, entry["meta"])
    except InputError as error:
        raise InputError(f"bundle {str(folder)!r}: result {name!r}: {error}") from None


def _tensors(loader: Any, path: Path) -> dict[str, Any]:
    try:
        return loader(path)
    except (SafetensorError, ValueError, OSError) as error:
        raise InputError(f"{str(path)!r}: damaged or no safetensors file ({error}).") from None
