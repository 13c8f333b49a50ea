"""Running a model through `begin` and `step`, one state at a time, so that depth costs no memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from probes.inputs import Inputs
from probes.numerics import host


def states(model: Any, inputs: Inputs, n_iters: int | None = None) -> Iterator[Any]:
    """The State after 0, 1, … r iterations (`n_iters`; r of the inputs if None), without gradients."""
    depth = inputs.n_iters if n_iters is None else n_iters
    with torch.no_grad():
        state = model.begin(inputs.tokens, n_iters=depth, attention_mask=inputs.mask)
    yield state
    for _ in range(depth):
        # Not across the yield: the caller's gradient mode is its own.
        with torch.no_grad():
            state = model.step(state)
        yield state


def normed(model: Any, z: Tensor) -> Tensor:
    """N(z), the model's final norm of z [..., d_model], undisturbed by another thread's hooks."""
    with torch.no_grad(), getattr(model, "lock", None) or nullcontext():
        return model.ln_final(z)


def exit_cdf(model: Any, state: Any) -> Tensor:
    """[batch, pos] F_k of the loop's learned gate; NaN for a loop without one."""
    with torch.no_grad(), getattr(model, "lock", None) or nullcontext():
        loop = getattr(getattr(model, "cfg", None), "loop", None)
        found = None if loop is None else loop.exit_cdf(model, state)
    return torch.full_like(state.z[..., 0], float("nan")) if found is None else found


def scaled_readout(model: Any, state: Any) -> np.ndarray:
    """[batch, pos, d] N(z_k) / √d in float64: of unit size for a plain RMSNorm, at any width."""
    return host(normed(model, state.z)) / np.sqrt(state.z.shape[-1])
