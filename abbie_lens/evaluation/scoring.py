"""From lm-eval's answers to scores with intervals and chance levels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from abbie_lens.evaluation.intervals import bootstrap, bootstrap_means, quantiles, wilson
from abbie_lens.evaluation.records import Score
from abbie_lens.evaluation.tasks import Tasks

_OF_CHOICES = {"acc", "acc_norm", "acc_bytes", "acc_mutual_info"}
"""Metrics that are right when the best of a document's choices is the correct one."""
_SLOW, _SLOW_DRAWS = {"bleu", "chrf", "chrf++", "ter"}, 100
"""Corpus metrics, whose aggregation reads every answer again at each draw."""


@dataclass(frozen=True)
class Sampling:
    """How intervals are made."""

    confidence: float = 0.95
    n_draws: int = 1000
    seed: int = 0


def scores(results: Mapping[str, Any], tasks: Tasks, sampling: Sampling) -> list[Score]:
    """One Score per group, task, metric and filter of what `lm_eval.evaluator.evaluate` returned."""
    draws: dict[str, dict[str, np.ndarray]] = {}
    leaves: list[Score] = []
    member = {
        task.task_name: name
        for name, group in tasks.groups.items()
        for task in group.get_all_tasks()
    }
    for name, task in tasks.leaves.items():
        draws[name] = {}
        for metric, filter_name, value in _numbers(results["results"][name]):
            samples = [s for s in results["samples"][name] if s["filter"] == filter_name]
            items = [s[metric] for s in samples if metric in s]
            low, high, kind, drawn = _interval(task, metric, items, value, sampling)
            draws[name][f"{metric},{filter_name}"] = drawn
            leaves.append(
                Score(
                    task=name,
                    metric=metric,
                    filter=filter_name,
                    value=value,
                    low=low,
                    high=high,
                    interval=kind,
                    n_documents=len(items),
                    chance=_chance(task, metric, samples),
                    higher_is_better=bool(task.higher_is_better().get(metric, True)),
                    part_of=member.get(name, ""),
                )
            )
    return [*_groups(results, tasks, leaves, draws, sampling), *leaves]


def _numbers(found: Mapping[str, Any]) -> Iterator[tuple[str, str, float]]:
    """(metric, filter, value) of lm-eval's "metric,filter" keys; what is no number is left out."""
    for key, value in found.items():
        metric, comma, filter_name = key.partition(",")
        is_number = isinstance(value, int | float | np.number)
        if comma and is_number and not metric.endswith("_stderr"):
            yield metric, filter_name, float(value)


def _interval(
    task: Any, metric: str, items: list[Any], value: float, sampling: Sampling
) -> tuple[float, float, str, np.ndarray]:
    """(low, high, kind, bootstrap draws) of one metric."""
    none = (math.nan, math.nan, "none", np.empty(0))
    if len(items) < 2 or not math.isfinite(value):
        return none
    if all(isinstance(item, bool | int | float | np.number) for item in items):
        values = np.array(items, dtype=float)
        # What the task aggregates otherwise (a perplexity, say) is not the mean of its items.
        if math.isclose(values.mean(), value, rel_tol=1e-9, abs_tol=1e-12):
            drawn = bootstrap_means(values, sampling.n_draws, sampling.seed)
            if np.isin(values, (0.0, 1.0)).all():
                return *wilson(values.sum(), len(values), sampling.confidence), "Wilson", drawn
            return *quantiles(drawn, sampling.confidence), "bootstrap", drawn
    aggregate = task.aggregation().get(metric)
    if aggregate is None:
        return none
    n_draws = min(sampling.n_draws, _SLOW_DRAWS) if metric in _SLOW else sampling.n_draws
    drawn = bootstrap(items, aggregate, n_draws, sampling.seed)
    return *quantiles(drawn, sampling.confidence), "bootstrap", drawn


def _chance(task: Any, metric: str, samples: list[dict[str, Any]]) -> float:
    """Mean share of right choices over documents; NaN for what is not a choice among answers."""
    if task.OUTPUT_TYPE != "multiple_choice" or metric not in _OF_CHOICES or not samples:
        return math.nan
    shares = []
    for sample in samples:
        target, n = sample["target"], len(task.doc_to_choice(sample["doc"]))
        shares.append((len(set(target)) if isinstance(target, list) else 1) / n)
    return float(np.mean(shares))


def _groups(
    results: Mapping[str, Any],
    tasks: Tasks,
    leaves: list[Score],
    draws: Mapping[str, Mapping[str, np.ndarray]],
    sampling: Sampling,
) -> Iterator[Score]:
    """Scores of groups. A share of all documents' answers has Wilson's interval again; another mean of
    members' scores takes it of their bootstrap draws.
    """
    for name, group in tasks.groups.items():
        members = {task.task_name for task in group.get_all_tasks()}
        for metric, filter_name, value in _numbers(results["results"][name]):
            key = f"{metric},{filter_name}"
            own = [s for s in leaves if s.task in members and s.key[1:] == (metric, filter_name)]
            sizes, by_size = _sizes(group, metric, own)
            weights = sizes / sizes.sum()
            drawn = [draws[s.task][key] for s in own]
            low = high = math.nan
            kind = "none"
            if own and by_size and all(s.interval == "Wilson" for s in own):
                kind, n = "Wilson", sizes.sum()
                low, high = wilson(round(value * n), n, sampling.confidence)
            elif own and all(len(d) == sampling.n_draws for d in drawn):
                # Members' documents are drawn independently of one another.
                order = np.random.default_rng(sampling.seed)
                shuffled = np.stack([order.permutation(d) for d in drawn])
                low, high = quantiles(weights @ shuffled, sampling.confidence)
                kind = "bootstrap"
            yield Score(
                task=name,
                metric=metric,
                filter=filter_name,
                value=value,
                low=low,
                high=high,
                interval=kind,
                n_documents=sum(s.n_documents for s in own),
                chance=float(weights @ np.array([s.chance for s in own])) if own else math.nan,
                higher_is_better=all(s.higher_is_better for s in own),
                part_of="",
            )


def _sizes(group: Any, metric: str, own: list[Score]) -> tuple[np.ndarray, bool]:
    """[member] weights with which the group averages its members, and whether they are documents."""
    by_size = any(c.metric == metric and c.weight_by_size for c in group.aggregate_metric_list)
    return np.array([s.n_documents if by_size else 1 for s in own], dtype=float), by_size
