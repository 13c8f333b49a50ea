"""What stored metrics say when two families are held against each other: paired differences, equal FLOPs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from abbie_lens.training import bootstrap_means
from probes.reproduction.measures.nll import DRAWS, interval
from probes.reproduction.store import Metrics, number, numbers


@dataclass(frozen=True)
class Estimate:
    """A number and the interval of it; NaN where there is none."""

    value: float = float("nan")
    low: float = float("nan")
    high: float = float("nan")

    @classmethod
    def of(cls, stored: list[float | None]) -> Estimate:
        """From a stored triple."""
        return cls(*map(number, stored))

    @property
    def known(self) -> bool:
        """Whether there is a number with an interval."""
        return bool(np.isfinite([self.value, self.low, self.high]).all())


@dataclass(frozen=True)
class At:
    """A family at a depth; None is the depth it was trained with."""

    family: str
    n_iters: int | None = None


def trained_depth(metrics: Metrics, family: str) -> int | None:
    """The depth a family was trained with; None if its NLL was not measured."""
    stored = metrics.values(family, "nll")
    return None if stored is None else stored["trained_n_iters"]


def nll(metrics: Metrics, at: At) -> Estimate:
    """Held-out NLL with its interval."""
    stored, column = _column(metrics, at)
    if stored is None or column is None:
        return Estimate()
    return Estimate.of([stored[name][column] for name in ("nll", "low", "high")])


def difference(metrics: Metrics, a: At, b: At) -> Estimate:
    """NLL of `a` minus that of `b`, drawn together: both read the same blocks of text."""
    sides = [_column(metrics, side) for side in (a, b)]
    (first, i), (second, j) = sides
    if first is None or second is None or i is None or j is None:
        return Estimate()
    counts = [numbers(side["block_tokens"]) for side in (first, second)]
    if counts[0].shape != counts[1].shape or (counts[0] != counts[1]).any():
        return Estimate()  # measured on other text: nothing is paired
    change = numbers(first["block_nll"][i]) - numbers(second["block_nll"][j])
    if not np.isfinite(change).all():
        return Estimate()
    document = np.array(first["block_document"])
    draws = bootstrap_means(change[:, None], counts[0], document, DRAWS, seed=0)
    low, high = interval(draws[:, 0])
    return Estimate(float(change.sum() / counts[0].sum()), float(low), float(high))


def frontier(metrics: Metrics, family: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(depths, FLOPs per token, NLL) where both were measured, by rising FLOPs."""
    loss, compute = metrics.values(family, "nll"), metrics.values(family, "compute")
    if loss is None or compute is None:
        return np.empty(0), np.empty(0), np.empty(0)
    flops = dict(zip(compute["n_iters"], numbers(compute["flops"]), strict=True))
    rows = [
        (r, flops.get(r, np.nan), value)
        for r, value in zip(loss["n_iters"], numbers(loss["nll"]), strict=True)
    ]
    rows = [row for row in rows if np.isfinite(row).all()]
    depths, cost, values = np.array(sorted(rows, key=lambda row: row[1])).reshape(-1, 3).T
    return depths, cost, values


def nll_at_flops(metrics: Metrics, family: str, flops: float) -> float:
    """NLL at `flops` a token, linear in log FLOPs between the depths measured; NaN outside them."""
    _, cost, values = frontier(metrics, family)
    if not len(cost) or not cost[0] * (1 - 1e-9) <= flops <= cost[-1] * (1 + 1e-9):
        return float("nan")
    return float(np.interp(np.log(flops), np.log(cost), values))


def flops_at(metrics: Metrics, at: At, key: str = "flops") -> float:
    """Forward FLOPs per token, or another row of the compute measure."""
    stored = metrics.values(at.family, "compute")
    depth = at.n_iters if at.n_iters is not None else trained_depth(metrics, at.family)
    if stored is None or depth not in stored["n_iters"]:
        return float("nan")
    return number(stored[key][stored["n_iters"].index(depth)])


def _column(metrics: Metrics, at: At) -> tuple[dict | None, int | None]:
    stored = metrics.values(at.family, "nll")
    if stored is None:
        return None, None
    depth = stored["trained_n_iters"] if at.n_iters is None else at.n_iters
    return stored, stored["n_iters"].index(depth) if depth in stored["n_iters"] else None
