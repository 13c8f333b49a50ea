"""The runs that make up a bundle, in one place for the command line and the dashboard."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import probes
from probes import Result

STATE_SITES = ("loop.hook_state", "loop.hook_readout")
KINDS = ("fixed_point", "lens", "trajectories", "halting")
TOP_K = 8
"""Candidates for the next token that are kept at every token and iteration."""
STEPS = ("fixed points", "lens", "trajectories", "halting", "states")


def run(
    analysis: str,
    model: Any,
    text: str,
    n_iters: int,
    *,
    seed: int = 0,
    rules: Sequence[Any] | None = None,
    **options: Any,
) -> Result:
    """One analysis with the settings that dashboard and bundles share."""
    if analysis == "fixed_point":
        return probes.fixed_point(model, text, n_iters, seed=seed, **options)
    if analysis == "lens":
        return probes.lens(model, text, n_iters, seed=seed, **{"top_k": TOP_K, **options})
    if analysis == "trajectories":
        return probes.trajectories(model, text, n_iters, **options)
    if analysis == "halting":
        return probes.halting(model, text, n_iters, rules=rules, **options)
    raise ValueError(f"analysis={analysis!r}: expected one of {KINDS}")


def results(
    model: Any,
    text: str,
    n_iters: int,
    *,
    progress: Callable[[int, int, str], None] = lambda done, total, step: None,
    **settings: Any,
) -> dict[str, Result]:
    """The analyses a bundle holds, by name. `progress(done, total, step)` is told before each."""
    found: dict[str, Result] = {}
    for done, kind in enumerate(KINDS):
        progress(done, len(STEPS), STEPS[done])
        found[kind] = run(kind, model, text, n_iters, **settings)
    progress(len(KINDS), len(STEPS), STEPS[-1])
    return found


def states(model: Any, text: str, n_iters: int) -> dict[str, np.ndarray]:
    """h_k and z_k of every token, [r+1, batch, pos, d_model], by site name."""
    _, cache = model.run_with_cache(
        model.to_tokens(text), n_iters=n_iters, names_filter=list(STATE_SITES)
    )
    return {name: cache[name].float().cpu().numpy() for name in STATE_SITES}
