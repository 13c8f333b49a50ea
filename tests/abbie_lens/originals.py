"""Tiny random models in public formats, with what the original code made of the same tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

CLOSE = {"atol": 1e-4, "rtol": 1e-4}
"""The originals' float32 is within 5e-5 of float64."""


@dataclass(frozen=True)
class Original:
    """One family's files, read from its folder."""

    config: dict[str, Any]
    weights: dict[str, Tensor]
    inputs: dict[str, Any]
    expected: dict[str, Tensor]

    @classmethod
    def read(cls, folder: Path) -> Original:
        """All files of one fixture."""
        plain = {
            name: json.loads((folder / f"{name}.json").read_text()) for name in ("config", "inputs")
        }
        tensors = {
            name: load_file(folder / f"{name}.safetensors") for name in ("model", "expected")
        }
        return cls(plain["config"], tensors["model"], plain["inputs"], tensors["expected"])

    @property
    def tokens(self) -> Tensor:
        """[batch, pos] token ids."""
        return torch.tensor(self.inputs["input_ids"])

    def stack(self, theirs: str, ours: str, names: dict[str, str]) -> dict[str, Tensor]:
        """The weights `theirs`.BLOCK.NAME as `ours`.BLOCK.NAME, for every block there is."""
        found = {}
        for key, tensor in self.weights.items():
            if key.startswith(f"{theirs}."):
                block, _, name = key.removeprefix(f"{theirs}.").partition(".")
                if name in names:
                    found[f"{ours}.{block}.{names[name]}"] = tensor
        return found
