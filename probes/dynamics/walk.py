"""What every analysis of the dynamics begins with: the run in float64, and which of its states can be used."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes import numerics
from probes.inputs import Inputs
from probes.running import states
from probes.twins import in_float64


@dataclass(frozen=True)
class Walk:
    """A model in float64 and a batch for it."""

    model: Any
    inputs: Inputs

    @classmethod
    def of(cls, model: Any, inputs: Inputs) -> Walk:
        """The run of `inputs` by a copy of `model` in float64."""
        wide = in_float64(model)
        mask = None if inputs.mask is None else inputs.mask.to(wide.device)
        return cls(wide, replace(inputs, tokens=inputs.tokens.to(wide.device), mask=mask))

    def states(self, n_iters: int | None = None) -> Iterator[Any]:
        """The State after 0, 1, … r iterations."""
        return states(self.model, self.inputs, n_iters)


def usable(state: Any) -> np.ndarray:
    """[batch, pos] whether h_k is finite and small enough for the norms inside the model."""
    size = numerics.norm(numerics.host(state.h))
    return size < numerics.largest_norm(torch.float64)


def first_lost(good: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """[batch, pos] the first iteration whose state is not usable, −1 if none; `good` [iteration, batch, pos]."""
    lost = ~good & valid
    return np.where(lost.any(0), lost.argmax(0), -1)


def drawn(seed: int, n: int, like: Tensor) -> Tensor:
    """n standard normal tensors of the shape of `like`, a function of the seed whatever the device."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *like.shape, generator=generator, dtype=torch.float64).to(like)


def whole_number(name: str, value: Any, least: int = 1) -> None:
    """Errors: InputError naming the argument."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name}={value!r}: expected an integer >= {least}.")


def iterations(at: Sequence[int] | str | None, n_iters: int) -> list[int]:
    """The k in 0 … r − 1 that are asked for: None the last, "all" every one. Errors: InputError."""
    if at is None:
        return [n_iters - 1]
    if at == "all":
        return list(range(n_iters))
    asked = [] if isinstance(at, str) else sorted(set(at))
    if not asked or not all(isinstance(k, int) and 0 <= k < n_iters for k in asked):
        raise InputError(f'at={at!r}: expected "all" or iterations from 0 to {n_iters - 1}.')
    return asked
