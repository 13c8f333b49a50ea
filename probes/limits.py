"""The limit h*, z* that distances are measured to: the end of a run several times longer than shown."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from abbie_lens.errors import AbbieLensError
from probes import numerics
from probes.inputs import Inputs
from probes.running import scaled_readout, states
from probes.twins import twin


@dataclass(frozen=True)
class Limit:
    """Where a long run ends."""

    unit: np.ndarray
    """[..., batch, pos, d] u(h*), or of whatever else the run was followed at; NaN where there is none."""
    readout: np.ndarray
    """[batch, pos, d] N(z*) / √d; NaN where there is none."""
    step: np.ndarray
    """[..., batch, pos] the last direction step: how still the long run stood."""
    iters: int
    """Iterations of the long run; 0 if there was none."""
    dtype: str
    """What it was computed in (see `find_limit`)."""
    reason: str
    """Why some token has no limit; empty if all have one."""


def find_limit(
    model: Any, inputs: Inputs, times: int, end: Callable[[Any, Inputs, int], Limit] | None = None
) -> Limit:
    """The end of a run of `times` × r iterations, in arithmetic that can carry it.

    Full precision runs in its own dtype, half precision in float32: rounding freezes a bfloat16 state
    about 1% away from the limit and would pass for it. A doubling family leaves float32's squares after
    about 62 iterations; then the run is repeated in float64, which carries about 510. Where that does
    not last either, the token's limit is NaN and the reason says so. Errors of the run itself (a family
    with a greatest depth, no memory for a second copy of the weights) are a reason too.
    `end` follows a run to its end; that of the state and its read-out if None.
    """
    depth, end = times * inputs.n_iters, end or _end
    half = torch.finfo(model.dtype).bits < 32
    try:
        limit = end(twin(model, torch.float32) if half else model, inputs, depth)
        if limit.reason and model.dtype != torch.float64:
            limit = end(twin(model, torch.float64), inputs, depth)
    except (AbbieLensError, torch.OutOfMemoryError, MemoryError) as error:
        return nothing(inputs, f"no run of {depth} iterations: {error}")
    return limit


def _end(model: Any, inputs: Inputs, depth: int) -> Limit:
    valid, largest = inputs.valid, numerics.largest_norm(model.dtype)
    lost, why = np.zeros_like(valid), ""
    unit = before = state = None
    for state in states(model, inputs, depth):
        h = numerics.host(state.h)
        norm = numerics.norm(h)
        gone = valid & ~lost & ~(norm < largest)
        if gone.any() and not why:
            what = "not finite" if np.isnan(norm[gone]).any() else "too large to square"
            why = f"the state is {what} from iteration {state.k} of {depth} in {dtype_name(model.dtype)}"
        lost |= gone
        if (lost | ~valid).all():
            return nothing(inputs, why)
        before, unit = unit, numerics.unit(h)
    assert state is not None and unit is not None and before is not None
    readout, hidden = scaled_readout(model, state), lost | ~valid
    for values in (unit, readout):
        values[hidden] = np.nan
    step = numerics.norm(unit - before)
    return Limit(unit, readout, step, depth, dtype_name(model.dtype), why)


def nothing(inputs: Inputs, reason: str) -> Limit:
    """No limit for any token."""
    nan = np.full(inputs.valid.shape, np.nan)
    return Limit(nan[..., None], nan[..., None], nan, 0, "", reason)


def dtype_name(dtype: torch.dtype) -> str:
    """ "float32" of torch.float32."""
    return str(dtype).removeprefix("torch.")
