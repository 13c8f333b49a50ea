"""A linear exit probe: how likely it is, by a linear map of the state, that further iterations won't change the answer.

Fitted by `probes.fit_exit_probe`; a rule like any other. Saved as safetensors, its settings in the header.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abbie_lens.errors import CheckpointError, InputError
from abbie_lens.halting.measures import wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation

_KIND = "abbie-lens exit probe"


@dataclass(frozen=True)
class ExitProbe(HaltingPolicy):
    """Stop when a linear probe of N(z_k) says that the answer will stay. Errors: InputError without fitting weights."""

    name = "exit_probe"
    title = "Linear exit probe"
    formula = "σ(w · N(z_k) + b) ≥ τ"
    unit = "probability"
    stops = "at_least"
    needs = frozenset({"normed"})
    allowed = (0.0, 1.0)
    threshold: float = 0.9
    weight: Tensor | None = field(default=None, repr=False, compare=False)
    """[d_model]."""
    bias: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight is None or self.weight.ndim != 1:
            raise InputError(
                "weight: an exit probe needs fitted weights [d_model]; fit or load one."
            )
        if not (bool(torch.isfinite(self.weight).all()) and math.isfinite(self.bias)):
            raise InputError("weight: an exit probe's weights must be finite.")

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if current.normed is None:
            raise InputError("Observation.normed is None: exit_probe needs the normed read-out.")
        assert self.weight is not None
        if current.normed.shape[-1] != len(self.weight):
            raise InputError(
                f"exit_probe: fitted on states of {len(self.weight)} numbers, these have {current.normed.shape[-1]}."
            )
        x = wide(current.normed)
        return (x @ self.weight.to(x) + self.bias).sigmoid()

    def describe(self) -> dict[str, Any]:
        """As of any rule, without the weights."""
        fixed = {key: getattr(self, key) for key in ("name", "title", "formula", "unit", "stops")}
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weight"}
        return {**fixed, **own}

    def save(self, path: str | Path) -> Path:
        """Write a .safetensors file."""
        assert self.weight is not None
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "weight"}
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(
            {"weight": self.weight.detach().float().cpu().contiguous()}, path,
            {"kind": _KIND, "settings": json.dumps(settings)},
        )  # fmt: skip
        return path

    @classmethod
    def load(cls, path: str | Path) -> ExitProbe:
        """Inverse of `save`. Errors: CheckpointError for a file that holds no exit probe."""
        try:
            with safe_open(str(path), "pt") as stored:
                about = stored.metadata() or {}
                if about.get("kind") != _KIND:
                    raise CheckpointError(f"{path}: holds no exit probe.")
                return cls(weight=stored.get_tensor("weight"), **json.loads(str(about["settings"])))
        except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"{path}: can't be read as an exit probe ({error}).") from error
