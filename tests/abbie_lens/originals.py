"""Tiny random models in public formats, with what the original code made of the same tokens."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from abbie_lens import HookedLoopedTransformer

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


def variant(model: HookedLoopedTransformer, **changes: Any) -> HookedLoopedTransformer:
    """The same weights in a model of another config."""
    made = HookedLoopedTransformer(model.cfg.replace(**changes)).eval()
    made.load_state_dict(model.state_dict())
    return made
