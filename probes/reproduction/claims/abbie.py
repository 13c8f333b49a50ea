"""What the AbbIE paper says of its two loops and its two baselines."""

from __future__ import annotations

import math

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.claims.dynamics import all_distances, converges, diverges
from probes.reproduction.comparisons import At, Estimate, difference
from probes.reproduction.store import Metrics, number

PAPER = Paper("AbbIE", "arXiv 2507.08567")
ABOUT = ("abbie-d",)
PLAIN = 1e-4
COLLAPSE = math.log(2)
"""Nats by which the NLL must rise for "collapses": perplexity doubles."""


def claims(metrics: Metrics) -> list[Claim]:
    """In the order of the paper's own argument."""
    d, c, std = At("abbie-d"), At("abbie-c"), At("std")
    return [
        *(_plain(metrics, family) for family in ("abbie-c", "abbie-d")),
        PAPER.lower(
            metrics, "AbbIE-D has the lower perplexity than a plain transformer at equal tokens",
            d, std, ((c, std), (At("0pt"), std)),
        ),
        PAPER.lower(
            metrics, "trained with r = 2, AbbIE-D is better still at r = 4",
            At("abbie-d", 4), At("abbie-d", 2),
            ((At("abbie-c", 4), At("abbie-c", 2)), (At("std", 4), At("std", 2))),
        ),
        PAPER.lower(
            metrics, "trained with r = 2, AbbIE-D is better still at r = 8",
            At("abbie-d", 8), At("abbie-d", 2),
        ),
        _worse(
            metrics, "AbbIE-C does not generalise upward", "abbie-c", 2, (4,), 0.0,
        ),
        *all_distances(converges, PAPER, metrics, "abbie-d", "AbbIE-D converges"),
        *all_distances(diverges, PAPER, metrics, "abbie-c", "AbbIE-C diverges"),
        *all_distances(converges, PAPER, metrics, "0pt", "0pt converges"),
        _worse(
            metrics, "0pt's perplexity collapses at other depths than it was trained with",
            "0pt", 2, (1, 4), COLLAPSE,
        ),
    ]  # fmt: skip


def _plain(metrics: Metrics, family: str) -> Claim:
    stored = metrics.values(family, "compute")
    value = math.nan if stored is None else number(stored["plain_difference"])
    return PAPER.claim(
        f"{family} at r = 1 is a plain transformer",
        f"logits equal to {PLAIN:g}",
        f"largest |logit| difference {value:.1e}" if math.isfinite(value) else "—",
        Estimate(value),
        value < PLAIN if math.isfinite(value) else None,
    )


def _worse(
    metrics: Metrics, claim: str, family: str, trained: int, others: tuple[int, ...], by: float
) -> Claim:
    """The claim that the NLL is higher by more than `by` at every other depth."""
    found = [difference(metrics, At(family, r), At(family, trained)) for r in others]
    told = "; ".join(
        f"{family} r={r} − r={trained}: {text(e)} nats" for r, e in zip(others, found, strict=True)
    )
    known = all(e.known for e in found)
    least = min(found, key=lambda e: e.low) if known else Estimate()
    rule = f"NLL higher at r = {', '.join(map(str, others))}, interval above {by:.2f}"
    return PAPER.claim(claim, rule, told, least, least.low > by if known else None)
