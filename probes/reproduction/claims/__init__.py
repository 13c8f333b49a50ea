"""Every claim of the papers in one row, judged from stored metrics alone."""

from __future__ import annotations

from probes.reproduction.claims import abbie, hops, pondering, resolution, stacks, wider
from probes.reproduction.claims.base import FAILS, HOLDS, UNKNOWN, Claim
from probes.reproduction.store import Metrics

__all__ = ["FAILS", "HOLDS", "UNKNOWN", "Claim", "judge"]


def judge(metrics: Metrics) -> list[Claim]:
    """All rows, paper by paper; papers whose families are not in the comparison are left out."""
    compared = set(metrics.families())
    rows = [
        claim
        for paper in (abbie, stacks, pondering, resolution, wider)
        if compared.intersection(paper.ABOUT)
        for claim in paper.claims(metrics)
    ]
    return rows + hops.claims(metrics)
