"""Weights on disk: safetensors and nothing else, because anything pickled runs code when it is read."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from abbie_lens.errors import CheckpointError
from abbie_lens.files.plain_json import read_object

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
CONVERT = (
    "Convert it once: abbie-lens convert FILE_OR_FOLDER_OR_ID (it reads tensors alone, with "
    "weights_only=True)."
)


def state_tensors(model: nn.Module) -> dict[str, Tensor]:
    """What a checkpoint holds: the state dict with tied tensors once, under their first name."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor
    return kept


def weight_files(path: Path) -> list[Path]:
    """The safetensors files that `path` names: itself, or those of a folder, sharded or not.

    Errors: CheckpointError if there are none, or only pickled ones.
    """
    if path.is_file():
        if path.suffix != ".safetensors":
            raise CheckpointError(
                f"{path}: weights are read from .safetensors files only. {CONVERT}"
            )
        return [path]
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such file or folder.")
    if (path / INDEX).is_file():
        return shards(path / INDEX, ".safetensors")
    found = sorted(path.glob("*.safetensors"))
    if (path / WEIGHTS) in found or len(found) == 1:
        return [path / WEIGHTS if (path / WEIGHTS) in found else found[0]]
    if found:
        names = ", ".join(f.name for f in found)
        raise CheckpointError(f"{path}: several weight files and no {INDEX}: name one of {names}.")
    if pickled := sorted(f.name for f in path.iterdir() if f.suffix in PICKLED):
        raise CheckpointError(
            f"{path}: has {', '.join(pickled)} but no .safetensors file. {CONVERT}"
        )
    raise CheckpointError(f"{path}: has no weights; expected {WEIGHTS}.")


def shards(index: Path, *suffixes: str) -> list[Path]:
    """The files beside an index that it names, each ending in one of `suffixes`.

    Errors: CheckpointError for what is no index, or names a file that is not beside it.
    """
    named = read_object(index).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise CheckpointError(f"{index}: no index: field 'weight_map' names no files.")
    names = sorted(set(map(str, named.values())))
    # a shard is a plain name: an index must not lead out of its folder
    if wrong := [n for n in names if Path(n).name != n or not n.endswith(suffixes)]:
        raise CheckpointError(f"{index}: names {wrong[0]!r}, not a weight file beside it.")
    if missing := [n for n in names if not (index.parent / n).is_file()]:
        raise CheckpointError(
            f"{index.parent}: {', '.join(missing)} named by {index.name} but not there."
        )
    return [index.parent / n for n in names]


class StoredTensors(Mapping[str, Tensor]):
    """The tensors of some files, on the CPU, as stored; each is read when asked for and kept by nobody.

    Errors: CheckpointError for a damaged file, or a name that two files hold.
    """

    def __init__(self, files: list[Path]) -> None:
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """By name, from the headers alone."""
        self.sizes: dict[str, int] = {}
        """Bytes by name."""
        for file in files:
            with _opened(file) as stored:
                for name in stored.keys():  # noqa: SIM118 (safe_open is no mapping)
                    if name in self._files:
                        raise CheckpointError(f"{file}: holds {name!r}, as another shard does.")
                    header = stored.get_slice(name)
                    self._files[name] = file
                    self.shapes[name] = tuple(header.get_shape())
                    self.sizes[name] = math.prod(self.shapes[name]) * _BYTES.get(
                        header.get_dtype(), 8
                    )

    def __getitem__(self, name: str) -> Tensor:
        # Opened anew each time: an open file keeps every page that was ever read of it.
        with _opened(self._files[name]) as stored:
            return stored.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


_BYTES = {
    **{f"{kind}{bits}": bits // 8 for kind in "IUF" for bits in (8, 16, 32, 64)},
    "BF16": 2,
    "BOOL": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
}
"""Bytes of an element, by the dtypes' names in a header."""


@contextmanager
def _opened(file: Path) -> Iterator[Any]:
    try:
        with safe_open(file, framework="pt") as stored:
            yield stored
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: damaged or not a safetensors file ({error}). Fetch or save it again."
        ) from error


def stored_shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Shapes by name, from one file's header alone. Errors: CheckpointError."""
    return StoredTensors([file]).shapes


def file_sha256(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
