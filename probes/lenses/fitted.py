"""A lens of matrices, one a row, as an object and as a folder: safetensors beside JSON.

lens.safetensors   matrices [row, d_model, d_model], biases [row, d_model], scales [row]; whichever the kind has
lens.json          format, kind, model, depth, addresses of the rows, how it was made, and what was measured
"""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from abbie_lens.errors import CheckpointError, ExistsError, InputError, nearest
from abbie_lens.files.plain_json import read_object, write_object
from probes.lenses.identity import weights_known
from probes.lenses.rows import Blocks

FORMAT, VERSION = "abbie-lens lens", 1
TENSORS, ABOUT = "lens.safetensors", "lens.json"
_KINDS: dict[str, type[FittedLens]] = {}


@dataclass(frozen=True, eq=False, kw_only=True)
class FittedLens(ABC):
    """Matrices of a lens: of one model, to one depth."""

    kind: ClassVar[str]
    tensors: ClassVar[tuple[str, ...]]
    """Fields that are stored as tensors, the first index the row."""

    model: dict[str, Any]
    """Who it was made for: name, loop, weight hashes (`identity`)."""
    n_iters: int
    """r: the depth whose prediction it leads to."""
    addresses: tuple[str, ...]
    """[row] where its rows are read."""
    settings: dict[str, Any] = field(default_factory=dict)
    """How it was made, as JSON."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """What was measured when it was made, as JSON."""
    matrices: Tensor
    """[row, d_model, d_model]."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        _KINDS[cls.kind] = cls

    @abstractmethod
    def apply(self, address: str, x: Tensor) -> Tensor:
        """What the final norm is to read for x [..., d_model] of the row at `address`, in x's dtype. Errors: InputError."""

    @property
    @abstractmethod
    def story(self) -> str:
        """How it was made, in a sentence."""

    @property
    def blocks(self) -> Blocks:
        """Which blocks have rows: False, True (the Body's), "all"."""
        if any(a.startswith(("head.", "tail.")) for a in self.addresses):
            return "all"
        return any(a.startswith("body.") for a in self.addresses)

    def row(self, address: str) -> int:
        """The number of the row at `address`. Errors: InputError with the nearest ones."""
        if address not in self.addresses:
            raise InputError(
                f"fitted: this {self.kind} lens has no row {address!r}.{nearest(address, self.addresses)}"
            )
        return self.addresses.index(address)

    def serves(self, n_iters: int) -> bool:
        """Whether rows of a run of that depth are among its own."""
        return n_iters == self.n_iters

    def check(self, model: Any, n_iters: int) -> Self:
        """Itself, if it is of this model and serves this depth. Errors: InputError."""
        info = model.info()
        if info.weight_hash not in weights_known(self.model):
            raise InputError(
                f"fitted: this {self.kind} lens is of {self.model['name']!r} (weights"
                f" {self.model['weight_hash'][:12]}, {self.model['dtype']}), not of {info.name!r} (weights"
                f" {info.weight_hash[:12]}, {info.dtype}); make one for this model."
            )
        if not self.serves(n_iters):
            raise InputError(
                f"n_iters={n_iters}: this {self.kind} lens was made for n_iters={self.n_iters};"
                " run that depth, or make one for this."
            )
        return self

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        return replace(self, **{name: getattr(self, name).to(device) for name in self.tensors})

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        dtype: torch.dtype | None = None,
        overwrite: bool = False,
    ) -> Path:
        """Write a folder, whole or not at all; `dtype` of the matrices, as they are if None. Errors: ExistsError."""
        folder = Path(folder)
        if folder.exists() and not overwrite:
            raise ExistsError(f"out={str(folder)!r} exists; choose another folder.")
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}.partial-"))
        try:
            stored = {
                name: getattr(self, name).detach().cpu().contiguous() for name in self.tensors
            }
            if dtype is not None:
                stored["matrices"] = stored["matrices"].to(dtype)
            save_file(stored, scratch / TENSORS)
            about = {
                "format": FORMAT,
                "version": VERSION,
                "kind": self.kind,
                "model": self.model,
                "n_iters": self.n_iters,
                "addresses": list(self.addresses),
                "settings": self.settings,
                "metrics": self.metrics,
            }
            write_object(scratch / ABOUT, about)
            scratch.chmod(0o755)
            (scratch / TENSORS).chmod(0o644)
            if folder.exists():
                shutil.rmtree(folder)
            os.rename(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return folder

    @staticmethod
    def load(folder: str | os.PathLike[str]) -> FittedLens:
        """The lens in a folder, on the CPU. Errors: CheckpointError for one that is missing or damaged."""
        folder = Path(folder)
        about = read_object(folder / ABOUT)
        if about.get("format") != FORMAT or about.get("version") != VERSION:
            raise CheckpointError(
                f"{folder / ABOUT}: expected {FORMAT!r} of version {VERSION}, found"
                f" {about.get('format')!r} of version {about.get('version')!r}."
            )
        cls = _KINDS.get(str(about.get("kind")))
        if cls is None:
            raise CheckpointError(
                f"{folder / ABOUT}: kind={about.get('kind')!r}; expected one of {', '.join(_KINDS)}."
            )
        try:
            stored = load_file(folder / TENSORS)
            given = {name: stored[name].float() for name in cls.tensors}
            rows = tuple(map(str, about["addresses"]))
            if any(len(tensor) != len(rows) for tensor in given.values()):
                raise ValueError(f"{len(rows)} rows, but tensors of other lengths")
            if not isinstance(about["model"], dict) or not isinstance(about["n_iters"], int):
                raise ValueError("model or n_iters is no such thing")
            return cls(
                model=about["model"], n_iters=about["n_iters"], addresses=rows,
                settings=dict(about["settings"]), metrics=dict(about["metrics"]), **given,
            )  # fmt: skip
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{folder}: no whole lens ({error}).") from error
