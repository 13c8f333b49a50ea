"""From sums to the result of a study: metrics, paired intervals, and what is saved at equal perplexity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from abbie_lens.info import ModelInfo
from probes.early_exit.live_points import LivePoints
from probes.early_exit.study_config import StudyConfig
from probes.early_exit.study_result import CLASS_METRICS, METRICS, TOLERANCES, HaltingStudy
from probes.early_exit.sums import COVARIATES, STATS, Sums, calibration

N_BOOTSTRAP = 1000


@dataclass(frozen=True, eq=False)
class Gathered:
    """All that a conclusion is drawn from; arrays as in HaltingStudy."""

    sums: Sums
    rules: tuple[dict[str, Any], ...]
    thresholds: np.ndarray
    classes: tuple[str, ...]
    fixed_flops: np.ndarray
    flops: np.ndarray
    """[rule, k]."""
    live: LivePoints
    n_undefined: int
    n_documents: int


def conclude(found: Gathered, info: ModelInfo, config: StudyConfig) -> HaltingStudy:
    """The result; draw 0 of every bootstrap is the corpus itself."""
    sums = found.sums
    n_rules, n_points = found.thresholds.shape
    used = np.flatnonzero(sums.fixed[0, :, 0])
    n = len(used)
    weights = np.ones((1, n))
    if n > 1:
        drawn = np.random.default_rng(config.seed).multinomial(n, np.full(n, 1 / n), N_BOOTSTRAP)
        weights = np.concatenate([weights, drawn])
    total, nll, agrees = weights @ sums.fixed[:, used]
    fixed_nll, fixed_agrees = nll / total, agrees / total
    squares = sums.squares[:, :, used] @ weights.T
    metrics = {name: np.full((n_rules, n_points, 3), np.nan) for name in METRICS}
    saving = np.full((n_rules, len(TOLERANCES), 3), np.nan)
    for i in range(n_rules):
        added, cost = [], []
        for j in range(n_points):
            by_exit = sums.by_exit[i * n_points + j][:, used]
            drawn = weights @ by_exit
            draws = _metrics(
                drawn, fixed_nll, fixed_agrees, squares, found.flops[i], found.fixed_flops
            )
            for name, x in draws.items():
                metrics[name][i, j] = _with_interval(x)
            added.append(draws["nll"] - fixed_nll[:, -1])
            cost.append(draws["flops"] / found.fixed_flops[-1])
        for t, tolerance in enumerate(TOLERANCES):
            draws = _saved(np.array(cost).T, np.array(added).T, tolerance)
            saving[i, t] = _with_interval(draws)
    fixed_cost = np.broadcast_to(found.fixed_flops / found.fixed_flops[-1], fixed_nll.shape)
    fixed_saving = np.stack(
        [_with_interval(_saved(fixed_cost, fixed_nll - fixed_nll[:, -1:], t)) for t in TOLERANCES]
    )
    shape = (n_rules, n_points)
    by_exit = sums.by_exit[:, 0].sum(1).reshape(*shape, -1)
    told = np.array([calibration(x) for x in sums.by_confidence]).reshape(*shape, 3)
    ever = sums.by_exit[0, STATS.index("ever")].sum()
    n_tokens = int(sums.fixed[0, :, 0].sum())
    return HaltingStudy(
        model=info,
        tokens=(),
        n_iters=config.n_iters,
        data=config.data,
        n_tokens=n_tokens,
        n_undefined=found.n_undefined,
        n_documents=found.n_documents,
        rules=found.rules,
        thresholds=found.thresholds,
        metrics=metrics,
        ece=told[..., 0],
        auroc=told[..., 1],
        auroc_error=told[..., 2],
        never_right=float(1 - ever / n_tokens),
        histogram=by_exit / n_tokens,
        classes=found.classes,
        class_sizes=sums.by_class[0, 0].sum(0),
        by_class=_by_class(sums.by_class[:, :, used], weights, shape),
        exits_by_class=sums.exits_by_class.reshape(*shape, *sums.exits_by_class.shape[1:]),
        fixed_nll=np.stack([_with_interval(x) for x in fixed_nll.T]),
        fixed_agreement=fixed_agrees[0],
        fixed_flops=found.fixed_flops,
        saving=saving,
        fixed_saving=fixed_saving,
        milliseconds=found.live.milliseconds,
        live_nll=found.live.nll,
        kv_error=found.live.kv_error,
        fixed_milliseconds=found.live.fixed_milliseconds,
        live_fixed_nll=found.live.fixed_nll,
    )  # fmt: skip


def _metrics(
    drawn: np.ndarray, fixed_nll: np.ndarray, fixed_agrees: np.ndarray, squares: np.ndarray,
    flops: np.ndarray, fixed_flops: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    """[draw] each metric; drawn [stat, draw, k], fixed_* [draw, k], squares [2, covariate, draw]."""
    stat = dict(zip(STATS, drawn, strict=True))
    n_by_exit = stat["n"]
    n = n_by_exit.sum(1)
    share = n_by_exit / n[:, None]
    mean = {name: stat[name].sum(1) / n for name in ("nll", "agrees", "right")}
    ever = stat["ever"].sum(1)
    cost = share @ flops
    random_nll = (share * fixed_nll).sum(1)
    # The best of one depth for all, or of two mixed, that costs no more than the rule all told.
    best = np.minimum.accumulate(fixed_nll, axis=1)
    alike = np.stack([np.interp(c, fixed_flops, row) for c, row in zip(cost, best, strict=True)])
    out = {
        "depth": share @ np.arange(share.shape[1]),
        "flops": cost,
        "nll": mean["nll"],
        "agreement": mean["agrees"],
        "accuracy": mean["right"],
        "oracle_error": stat["error"].sum(1) / np.where(ever > 0, ever, np.nan),
        "random_nll": random_nll,
        "random_agreement": (share * fixed_agrees).sum(1),
        "against_random": mean["nll"] - random_nll,
        "against_fixed": mean["nll"] - alike,
    }
    for i, name in enumerate(COVARIATES):
        short = "nll" if name == "nll_full" else name
        out[f"spearman_{short}"] = _spearman(n_by_exit, stat[name], squares[:, i])
    return out


def _by_class(
    sums: np.ndarray, weights: np.ndarray, shape: tuple[int, int]
) -> dict[str, np.ndarray]:
    """[rule, point, class, 3] depth, NLL and agreement with intervals; sums [point, (n, steps, nll, agrees), group, class]."""
    n_classes = sums.shape[-1]
    found = {name: np.full((len(sums), n_classes, 3), np.nan) for name in CLASS_METRICS}
    for point, one in enumerate(sums):
        n, *drawn = weights @ one
        n = np.where(n > 0, n, np.nan)
        for name, x in zip(CLASS_METRICS, drawn, strict=True):
            found[name][point] = [_with_interval(row) for row in (x / n).T]
    return {name: x.reshape(*shape, n_classes, 3) for name, x in found.items()}


def _spearman(n_by_exit: np.ndarray, ranks: np.ndarray, squares: np.ndarray) -> np.ndarray:
    """[draw] from tokens and rank sums by exit step [draw, k], and rank sums and squares [2, draw]; NaN if either is constant."""
    n = n_by_exit.sum(1)
    step = n_by_exit.cumsum(1) - n_by_exit / 2
    x = step / n[:, None]
    mean_x = (n_by_exit * x).sum(1) / n
    mean_y = squares[0] / n
    covariance = (x * ranks).sum(1) / n - mean_x * mean_y
    variance_x = (n_by_exit * x**2).sum(1) / n - mean_x**2
    variance_y = squares[1] / n - mean_y**2
    product = variance_x * variance_y
    return covariance / np.sqrt(np.where(product > 1e-12, product, np.nan))


def _saved(cost: np.ndarray, added: np.ndarray, tolerance: float) -> np.ndarray:
    """[draw] most saved along frontiers cost, added [draw, point]; full depth without a rule is always one of them."""
    out = np.full(len(cost), np.nan)
    for b in range(len(cost)):
        x, y = np.append(cost[b], 1.0), np.append(added[b], 0.0)
        there = np.isfinite(x) & np.isfinite(y)
        x, y = x[there], y[there]
        if len(x) < 2:
            continue
        order = np.argsort(x)
        x, y = x[order], y[order]
        ok = y <= tolerance
        best = x[ok].min()
        first = int(np.flatnonzero(ok)[0])
        if first > 0 and y[first - 1] > y[first]:
            share = (y[first - 1] - tolerance) / (y[first - 1] - y[first])
            best = x[first - 1] + share * (x[first] - x[first - 1])
        out[b] = 1 - min(best, 1.0)
    return out


def _with_interval(draws: np.ndarray) -> np.ndarray:
    """[3] the value, draw 0, and its interval over the others; NaN without them."""
    rest = draws[1:][np.isfinite(draws[1:])]
    if len(rest) < 2 or not np.isfinite(draws[0]):
        return np.array([draws[0], np.nan, np.nan])
    return np.array([draws[0], *np.quantile(rest, [0.025, 0.975])])
