"""Offload: weights of blocks that are kept in memory or on disk and brought to a device to run.

The work is accelerate's: a hook around the block's forward that fetches its weights, moves what it is given, and lets the
weights go again. Here is only what it keeps them in, and how they are read where a model's own tensors are asked for.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate.hooks import AlignDevicesHook, add_hook_to_module
from accelerate.utils.offload import OffloadedWeightsLoader, PrefixedDataset, offload_weight
from torch import Tensor, nn

from abbie_lens.files.placement import DISK, Placement


class Offloaded(Mapping[str, Tensor]):
    """Tensors that are not on their device: in memory, or in files in a folder of their own."""

    def __init__(self, placement: Placement) -> None:
        self.placement = placement
        self._memory: dict[str, Tensor] = {}
        self._index: dict[str, Any] = {}
        self.folder: Path | None = None

    def keep(self, name: str, tensor: Tensor) -> None:
        """Store one tensor, in the dtype that it has."""
        if self.placement.of(name) != DISK:
            self._memory[name] = tensor.cpu().clone()
            return
        if self.folder is None:
            assert self.placement.folder is not None
            self.placement.folder.mkdir(parents=True, exist_ok=True)
            self.folder = Path(tempfile.mkdtemp(prefix="blocks.", dir=self.placement.folder))
        offload_weight(tensor, name, self.folder, self._index)

    def discard(self) -> None:
        """Remove the files."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)

    def attach(self, model: nn.Module) -> None:
        """Make every block that is elsewhere run there, or where its weights are brought; files go with the model."""
        weights = OffloadedWeightsLoader(self._memory, self.folder, self._index)
        for name, at in self.placement.blocks.items():
            block = model.get_submodule(name)
            elsewhere = self.placement.offloads(name)
            hook = AlignDevicesHook(
                execution_device=self.placement.main if elsewhere else torch.device(at),
                offload=elsewhere,
                io_same_device=True,
                weights_map=PrefixedDataset(weights, f"{name}.") if elsewhere else None,
                place_submodules=True,
                offload_buffers=True,
            )
            add_hook_to_module(block, hook)
        if self.folder is not None:
            weakref.finalize(model, shutil.rmtree, self.folder, ignore_errors=True)

    def __getitem__(self, name: str) -> Tensor:
        return OffloadedWeightsLoader(self._memory, self.folder, self._index)[name]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._memory, *self._index])

    def __len__(self) -> int:
        return len(self._memory) + len(self._index)


def resident(model: nn.Module, name: str, tensor: Tensor) -> Tensor:
    """A tensor of a model as it is where that is somewhere, else read from where accelerate's hook keeps it."""
    if not tensor.is_meta:
        return tensor
    pieces = name.split(".")
    for n in range(len(pieces) - 1, -1, -1):
        hook = getattr(model.get_submodule(".".join(pieces[:n])), "_hf_hook", None)
        kept = getattr(hook, "weights_map", None)
        if kept is not None:
            return kept[".".join(pieces[n:])]
    return tensor
