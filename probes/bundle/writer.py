"""Writing a bundle: into a folder beside the target, which takes its name only when it is complete."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file as save_tensors
from torch import Tensor

from abbie_lens.errors import ExistsError, InputError
from probes.bundle import manifest as manifests
from probes.bundle import report
from probes.bundle.places import file_stems
from probes.result import Result


def save(
    results: Mapping[str, Result],
    path: str | os.PathLike[str],
    *,
    states: Mapping[str, Tensor | np.ndarray] | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write results, by name, as a bundle folder; it appears whole or not at all.

    states: tensors to keep beside them, e.g. a cache of `loop.hook_state`. settings: plain JSON, what
    the run was asked to do. overwrite: replace the folder, if it is a bundle and nothing else.
    Errors: InputError for no results, or settings that are not JSON; ExistsError.
    """
    if not results:
        raise InputError("results={}: a bundle needs at least one result.")
    for name, result in results.items():
        if not isinstance(name, str) or not isinstance(result, Result):
            raise InputError(f"results[{name!r}]: expected a name and a Result.")
    path = Path(os.path.abspath(path))
    _check_target(path, overwrite)
    manifest = manifests.build(results, settings or {})
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
    try:
        _fill(scratch, results, states, manifest)
        scratch.chmod(0o755)  # mkdtemp's 0700 would hide the bundle from everyone else
        _take_name(scratch, path, overwrite)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return path


def _fill(
    folder: Path,
    results: Mapping[str, Result],
    states: Mapping[str, Tensor | np.ndarray] | None,
    manifest: dict[str, Any],
) -> None:
    (folder / "tables").mkdir()
    (folder / "arrays").mkdir()
    stems = file_stems(results)
    for name, result in results.items():
        arrays, meta = result.to_arrays()
        table, stored = f"tables/{stems[name]}.parquet", f"arrays/{stems[name]}.safetensors"
        result.to_frame().to_parquet(folder / table, index=False)
        save_arrays({k: np.ascontiguousarray(v) for k, v in arrays.items()}, folder / stored)
        manifest["results"][name] = {
            "class": type(result).__name__,
            "title": result.title,
            "formula": result.formula,
            "table": table,
            "arrays": stored,
            "meta": meta,
        }
    if states is not None:
        manifest["states"] = "states.safetensors"
        tensors = {
            # One copy each: safetensors refuses tensors that share memory, and rows of a cache do.
            name: torch.as_tensor(x).detach().cpu().clone().contiguous()
            for name, x in states.items()
        }
        save_tensors(tensors, folder / "states.safetensors")
    page = report.page(results, manifest)
    (folder / "report.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    manifest["files"] = manifests.checksums(folder)
    text = json.dumps(manifest, indent=1, allow_nan=False)
    (folder / manifests.FILE).write_text(text, encoding="utf-8")


def _check_target(path: Path, overwrite: bool) -> None:
    if not path.exists() and not path.is_symlink():
        return
    if not overwrite:
        raise ExistsError(f"path={str(path)!r} exists; pass overwrite=True to replace a bundle.")
    if path.is_symlink():
        raise ExistsError(
            f"path={str(path)!r} is a symbolic link; only a bundle folder is replaced."
        )
    try:
        known = {manifests.FILE, *manifests.read(path)["files"]}
    except InputError as error:
        raise ExistsError(f"{error} Only a bundle is replaced.") from None
    files = (p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir())
    others = sorted(set(files) - known)
    if others:
        raise ExistsError(
            f"path={str(path)!r} also holds {others[0]!r}, which is not the bundle's."
        )


def _take_name(scratch: Path, path: Path, overwrite: bool) -> None:
    if not overwrite or not path.exists():
        # Another writer may have come first: os.rename would replace an empty folder silently.
        if path.exists():
            raise ExistsError(f"path={str(path)!r} appeared while the bundle was written.")
        os.rename(scratch, path)
        return
    old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.replaced-"))
    os.rename(path, old / path.name)
    try:
        os.rename(scratch, path)
    except OSError:
        os.rename(old / path.name, path)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)
