"""What exits cost: FLOPs by formula, the rule's own looks counted, and the milliseconds of a run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from abbie_lens.config import LoopedConfig
from abbie_lens.flops import count_flops
from abbie_lens.halting import ExitProbe, HaltingPolicy
from abbie_lens.model import HookedLoopedTransformer

REPEATS = 3


def flops_by_exit(
    model: Any, policies: Sequence[HaltingPolicy], n_iters: int, n_ctx: int
) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs per token that exits after k: [k] of a fixed depth, and [rule, k] with the rule's looks; NaN for bridged models.

    A rule on logits pays the Tail and the unembedding at every look but that at full depth, where nothing is left to decide;
    a learned gate the products it makes when asked, an exit probe its own; a combination what any of its rules asks for, once.
    Left out is what is no matrix product (distances, norms).
    """
    depths = n_iters + 1
    if not isinstance(model.cfg, LoopedConfig):  # blocks of another library
        return np.full(depths, np.nan), np.full((len(policies), depths), np.nan)
    counted = count_flops(model, n_iters, n_ctx)
    fixed = np.array([counted.at(k) for k in range(depths)])
    asked = np.zeros(depths)
    if any("exit_cdf" in policy.needs for policy in policies):
        asked = _gate(model, n_iters, n_ctx)
    spent = np.zeros((len(policies), depths))
    for row, policy in zip(spent, policies, strict=True):
        look = np.zeros(depths)
        if "logits" in policy.needs:
            look += counted.tail + counted.unembed
        if "exit_cdf" in policy.needs:
            look += asked
        look += 2 * model.cfg.d_model * _probes(policy)
        looked = np.array([policy.looks_at(k) and k < n_iters for k in range(depths)])
        row[:] = np.where(looked, look, 0).cumsum()
    return fixed, fixed + spent


def _probes(policy: HaltingPolicy) -> int:
    """Linear probes that a rule reads at a look."""
    if isinstance(policy, ExitProbe):
        return 1
    return sum(map(_probes, getattr(policy, "policies", ())))


def _gate(model: HookedLoopedTransformer, n_iters: int, n_ctx: int) -> np.ndarray:
    """[k] FLOPs per token of asking the learned gate after k iterations, counted on a run without memory."""
    loop = model.cfg.loop
    with torch.device("meta"):
        twin = type(model)(model.cfg.replace(seed=None)).eval()
        tokens = torch.zeros(1, n_ctx, dtype=torch.long)
    found = []
    with torch.no_grad():
        state = twin.begin(tokens, n_iters)
        for k in range(n_iters + 1):
            with FlopCounterMode(display=False) as counter:
                loop.exit_cdf(twin, state)
            found.append(counter.get_total_flops() / n_ctx)
            if k < n_iters:
                state = twin.step(state)
    return np.array(found)


def median_milliseconds(run: Callable[[], Any], device: torch.device) -> float:
    """Milliseconds; the first run warms up."""
    times = []
    for _ in range(REPEATS + 1):
        _wait(device)
        begun = time.perf_counter()
        with torch.no_grad():
            run()
        _wait(device)
        times.append(1000 * (time.perf_counter() - begun))
    return statistics.median(times[1:])


def _wait(device: torch.device) -> None:
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
