"""Paired timing: two functions run in turn in one process, so that a slow moment slows both of a pair."""

from __future__ import annotations

import gc
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Pairs:
    """Seconds of paired runs, or bytes of paired sizes."""

    ours: np.ndarray
    """[pair] seconds."""
    theirs: np.ndarray
    """[pair] seconds."""
    note: str = ""
    """What else was found, for the report."""

    @property
    def time_ratios(self) -> np.ndarray:
        """[pair] our time / their time."""
        return self.ours / self.theirs

    @property
    def speed_ratios(self) -> np.ndarray:
        """[pair] our speed / their speed, for equal work."""
        return self.theirs / self.ours


@dataclass(frozen=True)
class Once:
    """A figure that is no ratio, of one run in a process of its own."""

    value: float
    detail: str


def paired(
    ours: Callable[[], Any],
    theirs: Callable[[], Any],
    pairs: int,
    *,
    warmup: int = 2,
    device: str = "cpu",
) -> Pairs:
    """Run both `pairs` times after `warmup` untimed calls each, changing who goes first from pair to pair.

    A result is freed after its clock has stopped. The garbage collector runs between calls, not in them.
    """
    for _ in range(warmup):
        ours()
        theirs()
    seconds = np.empty((pairs, 2))
    was_enabled = gc.isenabled()
    # What lives already stays out of the collections between calls.
    gc.freeze()
    gc.disable()
    try:
        for pair in range(pairs):
            for column in (0, 1) if pair % 2 == 0 else (1, 0):
                gc.collect()
                seconds[pair, column] = _seconds(theirs if column else ours, device)
    finally:
        gc.unfreeze()
        if was_enabled:
            gc.enable()
    return Pairs(seconds[:, 0], seconds[:, 1])


def _seconds(fn: Callable[[], Any], device: str) -> float:
    _wait(device)
    start = time.perf_counter()
    result = fn()
    _wait(device)
    elapsed = time.perf_counter() - start
    del result
    return elapsed


def peak_bytes() -> int:
    """What this process held in memory at its peak."""
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
