"""Claims that a family's state settles, or does not: the last step at r = 16 over the first."""

from __future__ import annotations

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.comparisons import Estimate
from probes.reproduction.measures.fixed_points import DISTANCES
from probes.reproduction.store import Metrics

SETTLED = 0.1
"""A distance has converged where its last step is below this share of its first."""
TITLES = {"raw": "raw", "relative": "relative", "direction": "direction", "readout": "read-out"}


def converges(paper: Paper, metrics: Metrics, family: str, claim: str, distance: str) -> Claim:
    """The claim that this distance falls to less than a tenth."""
    rule = f"last step over first below {SETTLED:g}, interval too"
    return _row(paper, metrics, family, claim, distance, rule, lambda e: e.high < SETTLED)


def diverges(paper: Paper, metrics: Metrics, family: str, claim: str, distance: str) -> Claim:
    """The claim that this distance does not fall at all."""
    rule = "last step over first above 1, interval too"
    return _row(paper, metrics, family, claim, distance, rule, lambda e: e.low > 1)


def all_distances(make, paper: Paper, metrics: Metrics, family: str, claim: str) -> list[Claim]:
    """One row a distance: the sources do not say which they mean, and the answer depends on it."""
    return [
        make(paper, metrics, family, f"{claim}: {TITLES[name]} distance", name)
        for name in DISTANCES
    ]


def ratio(metrics: Metrics, family: str, distance: str, weights: str = "trained") -> Estimate:
    """Last step over first of the trained or random weights."""
    stored = metrics.values(family, "fixed_point")
    if stored is None or stored[weights] is None:
        return Estimate()
    return Estimate.of(stored[weights]["last_over_first"][distance])


def _row(paper, metrics, family, claim, distance, rule, judge) -> Claim:
    trained, random = (ratio(metrics, family, distance, w) for w in ("trained", "random"))
    told = f"{family}: {short(trained)}; random weights: {short(random)}"
    return paper.claim(claim, rule, told, trained, judge(trained) if trained.known else None)


def short(estimate: Estimate) -> str:
    """A ratio that may span orders of magnitude."""
    if abs(estimate.value) < 1000 and not 0 < abs(estimate.value) < 0.001:
        return text(estimate, sign=False)
    values = (estimate.value, estimate.low, estimate.high)
    value, low, high = (f"{v:.1e}" for v in values)
    return "—" if estimate.value != estimate.value else f"{value} ({low} … {high})"
