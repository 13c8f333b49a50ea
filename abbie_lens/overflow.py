"""When a state that grows by a fixed factor leaves its dtype's range, told before it does.

AbbIE-D computes h_{k+1} = 2 h_k + F(h_k). F reads a normed stream and hardly changes once the direction settles, so
h_j = 2^j (h_0 + F) - F, and h_{k+1} - h_k = 2^k (h_0 + F): the step between two states says where every later one is,
|h_j| = 2^(j - k + 1) |h_k - h_{k-1}| up to F. In float16, which ends at 65504, that is after about 11 to 15 iterations.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from abbie_lens.errors import OverflowForecast

if TYPE_CHECKING:
    from abbie_lens.state import State

AT = 2
"""Iteration after which the forecast is made: the first step still turns the Head's output into the Body's."""


_heard: ContextVar[list[str] | None] = ContextVar("overflow forecasts", default=None)


@contextmanager
def forecasts() -> Iterator[list[str]]:
    """What this thread's runs forecast inside the block, collected instead of warned of: filters are the process's."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def forecast(step: Tensor, k: int, growth: float, dtype: torch.dtype) -> float:
    """First iteration whose state has an entry beyond `dtype`, from `step` = h_k - h_{k-1}; infinity if it grows from 0."""
    largest = float(step.abs().max())
    if not largest > 0:
        return math.inf
    if not math.isfinite(largest):
        return k
    # The quotient of the two may itself be beyond float64.
    left = math.log(torch.finfo(dtype).max) - math.log(largest)
    return max(k, k + math.floor(left / math.log(growth)))


def warn_of_overflow(family: str, growth: float, before: Tensor, state: State) -> None:
    """Warn once a run, at k = 2, where a state [batch, pos, d_model] will overflow before the planned depth is reached.

    `before` is h_1. Depths at which only entries beyond the fourth root of the range could overflow are not looked at:
    reading a number off the device waits for it.
    """
    dtype = state.h.dtype
    near = math.log(torch.finfo(dtype).max, growth) / 4 if growth > 1 else math.inf
    if state.k != AT or state.n_iters < near or state.h.is_meta or torch.compiler.is_compiling():
        return
    try:
        at = forecast(state.h.detach() - before.detach(), state.k, growth, dtype)
    except RuntimeError:  # inside a functional transform, where no number can be read
        return
    if at > state.n_iters:
        return
    name, limit = str(dtype).removeprefix("torch."), torch.finfo(dtype).max
    wider = ("bfloat16 or float32, " if limit < 1e30 else "float64, ") if limit < 1e300 else ""
    text = (
        f"{family} multiplies its state by {growth:g} an iteration: in {name}, which ends at {limit:.4g}, it will overflow "
        f"at iteration {at} of {state.n_iters}; use {wider}or fewer than {at} iterations."
    )
    if (heard := _heard.get()) is not None:
        heard.append(text)
    else:
        warnings.warn(text, OverflowForecast, stacklevel=2)
