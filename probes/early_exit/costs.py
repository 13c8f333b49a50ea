"""What exits cost: FLOPs by formula, the rule's own looks counted, and milliseconds of runs whose tokens leave."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.flops import count_flops
from abbie_lens.halting import HaltingPolicy
from abbie_lens.model import HookedLoopedTransformer

REPEATS = 3


def flops_by_exit(
    model: Any, policies: Sequence[HaltingPolicy], n_iters: int, n_ctx: int
) -> tuple[np.ndarray, np.ndarray]:
    """FLOPs per token that exits after k: [k] of a fixed depth, and [rule, k] with the rule's looks; NaN for bridged models.

    A rule on logits pays the Tail and the unembedding at every look but that at full depth, where nothing is left to decide.
    Left out is what grows with d_model alone (distances, norms), and what a learned gate costs when it is asked.
    """
    depths = n_iters + 1
    if not isinstance(model, HookedLoopedTransformer):
        return np.full(depths, np.nan), np.full((len(policies), depths), np.nan)
    counted = count_flops(model, n_iters, n_ctx)
    fixed = np.array([counted.at(k) for k in range(depths)])
    look = counted.tail + counted.unembed
    looks = np.zeros((len(policies), depths))
    for row, policy in zip(looks, policies, strict=True):
        if "logits" in policy.needs:
            looked = np.array([policy.looks_at(k) and k < n_iters for k in range(depths)])
            row[:] = looked.cumsum()
    return fixed, fixed + looks * look


def milliseconds(
    model: Any,
    tokens: Tensor,
    mask: Tensor | None,
    n_iters: int,
    policies: Sequence[HaltingPolicy],
    thresholds: np.ndarray,
    kv: str = "reuse",
) -> tuple[np.ndarray, np.ndarray]:
    """Median milliseconds per 1,000 tokens of live runs: [rule, point] by rule and threshold, [k] of fixed depths.

    NaN for what the runtime refuses: bridged models, families whose tokens meet outside attention, stops before keys are made.
    """
    n_tokens = int(tokens.numel() if mask is None else mask.sum())
    found = np.full(thresholds.shape, np.nan)
    for i, policy in enumerate(policies):
        for j, threshold in enumerate(thresholds[i]):
            try:
                rule = policy.replace(threshold=float(threshold))
                run = lambda rule=rule: model(  # noqa: E731
                    tokens, n_iters=n_iters, attention_mask=mask, halting=rule, kv=kv
                )
                found[i, j] = median_milliseconds(run, model.device)
            except (InputError, TypeError):
                continue
    fixed = np.full(n_iters + 1, np.nan)
    for k in range(1, n_iters + 1):
        fixed[k] = median_milliseconds(
            lambda k=k: model(tokens, n_iters=k, attention_mask=mask), model.device
        )
    return found * 1000 / n_tokens, fixed * 1000 / n_tokens


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
