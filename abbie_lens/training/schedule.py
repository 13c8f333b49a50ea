"""Warmup-Stable-Decay: linear rise, constant, then to zero (Hu et al. 2024, arXiv 2404.06395)."""

import math


def decay_start(n_steps: int, decay_fraction: float) -> int:
    """First step of the decay."""
    return n_steps - round(n_steps * decay_fraction)


def wsd(step: int, n_steps: int, warmup_steps: int, decay_fraction: float, decay: str) -> float:
    """Share of the peak learning rate at `step` (from 0); the decay would reach 0 at `n_steps`.

    `decay` is "sqrt" (1 - sqrt(x), Hägele et al. 2024) or "linear" (1 - x).
    """
    start = decay_start(n_steps, decay_fraction)
    rise = (step + 1) / warmup_steps if step < warmup_steps else 1.0
    if step < start:
        return rise
    x = (step - start) / max(n_steps - start, 1)
    return rise * (1.0 - (math.sqrt(x) if decay == "sqrt" else x))
