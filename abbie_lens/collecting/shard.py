"""One shard: its values as safetensors and its part of the index as Parquet, whole or absent."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from safetensors.torch import save_file
from torch import Tensor

from abbie_lens.errors import InputError

INDEX = pa.schema(
    [
        ("document", pa.int64()),
        ("number", pa.int64()),
        ("token", pa.int64()),
        ("text", pa.string()),
        ("start", pa.int64()),
        ("end", pa.int64()),
        ("position", pa.int32()),
        ("nll", pa.float32()),
    ]
)
"""Of a token: document; its number there; id; as text; first character there and the one after the last; position in
what the model read; -log p of it in nats after all iterations, NaN where nothing precedes it."""
_STEM = "shard-"


def values_path(folder: Path, number: int) -> Path:
    """File with the shard's tensors."""
    return folder / f"{_STEM}{number:06d}.safetensors"


def index_path(folder: Path, number: int) -> Path:
    """File with the shard's table; written last, so that it says the shard is whole."""
    return folder / f"{_STEM}{number:06d}.parquet"


def finished(folder: Path) -> list[int]:
    """Numbers of the whole shards, ascending."""
    stems = (path.stem.removeprefix(_STEM) for path in folder.glob(f"{_STEM}*.parquet"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def write(
    folder: Path,
    number: int,
    values: Mapping[str, Tensor],
    index: Mapping[str, Sequence[Any] | np.ndarray],
) -> int:
    """Write a shard, values first; bytes on disk. Errors: InputError where the disk has no room, leaving no part of it."""
    needed = sum(t.numel() * t.element_size() for t in values.values())
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder}: shard {number} needs {needed / 2**20:.0f} MiB and {free / 2**20:.0f} MiB are free; "
            "make room and go on with resume."
        )
    targets = values_path(folder, number), index_path(folder, number)
    partials = [target.with_name(f".{target.name}.{os.getpid()}") for target in targets]
    try:
        save_file(dict(values), partials[0])
        pq.write_table(pa.table(dict(index), schema=INDEX), partials[1])
        # safetensors writes for the owner alone, whatever the user's mask
        partials[0].chmod(partials[1].stat().st_mode)
        for partial, target in zip(partials, targets, strict=True):
            os.replace(partial, target)
    except OSError as error:
        raise InputError(
            f"{folder}: shard {number} can't be written ({error}); make room and go on with resume."
        ) from error
    finally:
        for partial in partials:
            partial.unlink(missing_ok=True)
    return sum(target.stat().st_size for target in targets)


def sweep(folder: Path) -> None:
    """Drop what a killed run left half-written. Only while no other process writes there."""
    for stale in folder.glob(f".{_STEM}*"):
        stale.unlink(missing_ok=True)
    whole = set(finished(folder))
    for path in folder.glob(f"{_STEM}*.safetensors"):
        if int(path.stem.removeprefix(_STEM)) not in whole:
            path.unlink()
