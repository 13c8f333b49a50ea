"""Pickled weights made into safetensors, once: what is loaded afterwards can hold tensors and nothing else.

Pickles are read by torch's restricted unpickler (`weights_only=True`), which builds tensors and calls nothing that the
file names. `load` itself never reads one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from abbie_lens.errors import CheckpointError, ExistsError
from abbie_lens.files import hub
from abbie_lens.files.weights import PICKLED, WEIGHTS, shards

PICKLE_INDEX = "pytorch_model.bin.index.json"
NAMES = ("pytorch_model.bin", "model.pt")
"""What a folder's weights are called, the first that is there; else its only pickled file."""
WRAPPERS = ("model", "state_dict", "model_state_dict")
"""Keys under which training programs keep the tensors."""
PATTERNS = (*hub.SMALL, PICKLE_INDEX, *NAMES, "pytorch_model-*.bin")


def convert(
    source: str | Path,
    out: str | Path | None = None,
    *,
    revision: str | None = None,
    token: str | None = None,
) -> Path:
    """The safetensors file or folder made of a pickled file, a folder with one, or a hub id; written whole or not at all.

    `out` None: beside a file or in its folder; for a hub id a new folder of the model's name, here. Config and tokenizer
    come along. Errors: CheckpointError for what holds more than tensors, or is damaged; ExistsError.
    """
    path, name = Path(source).expanduser(), str(source)
    if path.is_file():
        target = path.with_suffix(".safetensors") if out is None else Path(out).expanduser()
        _refuse_existing(target)
        _write(_tensors([path]), target)
        return target
    if path.is_dir():
        folder, target = path, path if out is None else Path(out).expanduser()
    elif hub.is_hub_id(name):
        target = Path(name.rpartition("/")[2] if out is None else out).expanduser()
        _check_free(target)
        folder = hub.fetch(name, revision, token, PATTERNS)
    else:
        raise CheckpointError(f"{name!r}: expected a pickled file, a folder, or a hub id.")
    files = _pickles(folder)
    if target.resolve() == folder.resolve():
        _refuse_existing(target / WEIGHTS)
        _write(_tensors(files), target / WEIGHTS)
        return target
    _check_free(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        for small in hub.SMALL:
            if (folder / small).is_file():
                shutil.copyfile(folder / small, draft / small)
        _write(_tensors(files), draft / WEIGHTS)
        draft.chmod(0o755)  # mkdtemp makes it private
        draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _pickles(folder: Path) -> list[Path]:
    """The pickled files that hold a folder's weights."""
    if (folder / PICKLE_INDEX).is_file():
        return shards(folder / PICKLE_INDEX, *PICKLED)
    if there := [folder / name for name in NAMES if (folder / name).is_file()]:
        return there[:1]
    found = sorted(file for file in folder.iterdir() if file.suffix in PICKLED)
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise CheckpointError(f"{folder}: expected one file of pickled weights, found {names}.")
    return found


def _tensors(files: list[Path]) -> dict[str, Tensor]:
    """All tensors of the files, none sharing memory with another."""
    tensors: dict[str, Tensor] = {}
    for file in files:
        try:
            # As old as the file is: only archives of torch >= 1.6 can be mapped into memory.
            with file.open("rb") as stream:
                mapped = stream.read(2) == b"PK"
            held: Any = torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
        except Exception as error:  # the unpickler raises whatever damaged bytes lead it to
            reason = " ".join(str(error).split(".")[0].split())
            raise CheckpointError(
                f"{file}: damaged, or holds more than tensors, which is never read ({reason})."
            ) from error
        found = _unwrapped(held)
        if found is None:
            raise CheckpointError(
                f"{file}: expected tensors by name, found {type(held).__name__} of other things."
            )
        if twice := tensors.keys() & found.keys():
            raise CheckpointError(f"{file}: holds {min(twice)!r}, as another shard does.")
        tensors |= found
    return {name: tensor.clone().contiguous() for name, tensor in tensors.items()}


def _unwrapped(held: Any) -> dict[str, Tensor] | None:
    """The tensors by name, alone or under a usual key of a training program."""
    for found in (held, *(held.get(k) for k in WRAPPERS if isinstance(held, dict))):
        pairs = found.items() if isinstance(found, dict) else ()
        if pairs and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in pairs):
            return dict(pairs)
    return None


def _write(tensors: dict[str, Tensor], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, scratch = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    os.close(handle)
    try:
        save_file(tensors, scratch, {"format": "pt"})
        Path(scratch).chmod(0o644)
        os.replace(scratch, target)
    finally:
        Path(scratch).unlink(missing_ok=True)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise ExistsError(f"{target}: exists already; it is not replaced.")


def _check_free(folder: Path) -> None:
    if folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise ExistsError(f"{folder}: exists already; expected a new or empty folder.")
