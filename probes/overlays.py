"""Results of one analysis, of several models or prompts, laid over each other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from probes.comparison import Comparison, Curve, Quantity, assemble
from probes.distances import METRICS
from probes.dynamics.attention import MEASURES, Attention
from probes.dynamics.patterns import TITLES
from probes.early_exit.replay import Halting
from probes.fixed_point_result import FixedPoint
from probes.lenses.result import Lens
from probes.result import Result

DISTANCES = ("raw", "relative", "norm", "direction", "readout", "limit_direction")
STEPS = ("raw", "relative", "direction", "readout")
"""Those from h_k to h_{k+1}; the others belong to h_k itself."""
_DRAWS, _SEED = 500, 0


def distances(runs: Sequence[tuple[str, FixedPoint]]) -> Comparison:
    """The fixed-point distances of each run: median and 10–90% over tokens."""
    panels = []
    for name in DISTANCES:
        metric, level = METRICS[name], name not in STEPS
        formula = metric.formula.split(",  ")[0]
        curves = [_quantiles(result, name) for _, result in runs]
        panels.append((Quantity(metric.title, formula, log=True, head=level), curves))
    text = "median over tokens, band 10–90% of them; u(x) = x/‖x‖, N: the final norm, h*: the end of a longer run"
    return _of(runs, "Fixed-point distances", panels, text)


def attention(runs: Sequence[tuple[str, Attention]]) -> Comparison:
    """The measures of each run's attention patterns: median and 10–90% over blocks and heads."""
    formulas = {**MEASURES, "sink_rate": "heads whose mean Aₜ₀ is large"}
    panels = []
    for name, title in TITLES.items():
        curves = []
        for _, result in runs:
            low, median, high = result.quantiles(name)
            if name == "sink_rate":
                low = high = np.full(len(low), np.nan)
            curves.append(Curve(np.arange(len(median), dtype=float), median, low, high))
        panels.append((Quantity(title, formulas[name]), curves))
    text = "median over heads of their means over tokens, band 10–90% of heads"
    return _of(runs, "Attention over the iterations", panels, text)


def losses(runs: Sequence[tuple[str, Lens]]) -> Comparison:
    """What each run would predict after k iterations: NLL, entropy, KL to its own end, rank of the next token."""
    quantities: list[tuple[Quantity, Callable[[Lens], np.ndarray]]] = [
        (Quantity("NLL (nats)", "−log p_k(next token)", head=True), lambda lens: lens.nll),
        (Quantity("Entropy (nats)", "−Σ p_k log p_k", head=True), lambda lens: lens.entropy),
        (
            Quantity("KL to its own end (nats)", "KL(p_r ‖ p_k)", head=True),
            lambda lens: lens.kl_to_final,
        ),
    ]
    panels = [
        (quantity, [_means(take(lens)[lens.readouts], _scored(lens)) for _, lens in runs])
        for quantity, take in quantities
    ]
    text = (
        "mean over the prompt's tokens that have a next one, band 95% bootstrap over those tokens"
    )
    kinds = {lens.label for _, lens in runs}
    title = " · ".join(["Read-out after k iterations", *(kinds if len(kinds) == 1 else ())])
    return _of(runs, title, panels, text)


def halting(runs: Sequence[tuple[str, Halting]], rule: str) -> Comparison:
    """One rule in each run: depth against quality over its thresholds, and who has stopped by k at its default."""
    sweeps = [result.sweep(rule) for _, result in runs]
    steps = "mean steps per token"
    kept, loss, stopped = [], [], []
    for (_, result), sweep in zip(runs, sweeps, strict=True):
        kept.append(_line(sweep.mean_steps, sweep.agreement))
        loss.append(_line(sweep.mean_steps_scored, sweep.nll))
        outcome = result.at(rule)
        exits = outcome.exit_step[outcome.fired]
        k = np.arange(result.n_iters + 1)
        n = (outcome.exit_step >= 0).sum()
        stopped.append(_line(k, (exits[None] <= k[:, None]).sum(1) / n))
    about = sweeps[0].rule
    threshold = f"τ = {about['threshold']:.3g}"
    panels = [
        (Quantity("Agreement with full depth", "share of tokens", steps), kept),
        (Quantity("NLL at exit (nats)", "mean over tokens", steps), loss),
        (Quantity("Stopped by iteration k", f"share of tokens, {threshold}"), stopped),
    ]
    text = f"{about['formula']}; left and middle over all thresholds, right at the rule's own"
    return _of(runs, f"Halting · {about['title']}", panels, text)


def _of(
    runs: Sequence[tuple[str, Result]],
    heading: str,
    panels: Sequence[tuple[Quantity, Sequence[Curve]]],
    band: str,
) -> Comparison:
    results = [result for _, result in runs]
    depths = sorted({result.n_iters for result in results})
    notes = []
    if len(depths) > 1:
        least = [name for name, result in runs if result.n_iters < depths[-1]]
        notes.append(f"{', '.join(least)}: no depth beyond its last point.")
    models = {(result.model.weight_hash, result.model.family) for result in results}
    if len(models) > 1 and _other_tokens(results):
        notes.append(
            "The models split the prompt into other tokens: nats per token are not comparable."
        )
    return assemble(
        heading,
        [(name, result.model) for name, result in runs],
        panels,
        band=band,
        tokens=results[0].tokens,
        n_iters=depths[-1],
        several_models=len(models) > 1,
        notes=notes,
    )


def _other_tokens(results: Sequence[Result]) -> bool:
    return len({result.tokens for result in results}) > 1


def _quantiles(result: FixedPoint, metric: str) -> Curve:
    low, median, high = result.quantiles(metric)
    return Curve(np.arange(len(median), dtype=float), median, low, high)


def _means(values: np.ndarray, scored: np.ndarray) -> Curve:
    """Mean of values [k, batch, pos] over the scored tokens with its bootstrap interval."""
    kept = values[:, scored]
    k = np.arange(len(kept), dtype=float)
    if kept.shape[1] < 2:
        alone = kept.mean(1) if kept.shape[1] else np.full(len(kept), np.nan)
        return _line(k, alone)
    draws = np.random.default_rng(_SEED).integers(kept.shape[1], size=(_DRAWS, kept.shape[1]))
    low, high = np.quantile(kept[:, draws].mean(-1), [0.025, 0.975], axis=1)
    return Curve(k, kept.mean(1), low, high)


def _scored(lens: Lens) -> np.ndarray:
    """[batch, pos] tokens that have a next one, the same for every quantity."""
    following = np.zeros_like(lens.valid)
    following[:, :-1] = lens.valid[:, :-1] & lens.valid[:, 1:]
    return following


def _line(x: np.ndarray, value: np.ndarray) -> Curve:
    nothing = np.full(len(x), np.nan)
    return Curve(np.asarray(x, dtype=float), np.asarray(value, dtype=float), nothing, nothing)
