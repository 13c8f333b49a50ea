"""What is said of coarse loops first (SpiralFormer)."""

from __future__ import annotations

import math

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.comparisons import At, Estimate, flops_at
from probes.reproduction.store import Metrics

PAPER = Paper("SpiralFormer", "arXiv 2602.11698")
ABOUT = ("spiral",)
CONTROLS = ("abbie-d", "lt", "flt")


def claims(metrics: Metrics) -> list[Claim]:
    """Attention by loop, compute, loss."""
    return [
        _wider(metrics, "span", "early loops reach further back than late ones", "tokens"),
        _wider(metrics, "entropy", "early loops attend more evenly than late ones", ""),
        _saved(metrics),
        PAPER.lower(
            metrics, "SpiralFormer has the lower perplexity than a plain transformer at equal tokens",
            At("spiral"), At("std"), ((At("abbie-c"), At("std")),),
        ),
        PAPER.unmeasured(
            "MeSH merging is better than the anchor, coarse to fine better than fine to coarse",
            "one schedule and one merge are trained here",
        ),
    ]  # fmt: skip


def first_minus_last(metrics: Metrics, family: str, quantity: str) -> Estimate:
    """First loop minus last."""
    stored = metrics.values(family, "attention")
    return Estimate() if stored is None else Estimate.of(stored["first_minus_last"][quantity])


def _wider(metrics: Metrics, quantity: str, claim: str, unit: str) -> Claim:
    found = first_minus_last(metrics, "spiral", quantity)
    beside = ", ".join(f"{f} {text(first_minus_last(metrics, f, quantity))}" for f in CONTROLS)
    return PAPER.claim(
        claim,
        "first loop minus last above 0, interval too",
        f"spiral {text(found)} {unit}".rstrip() + f"; at full resolution: {beside}",
        found,
        found.low > 0 if found.known else None,
    )


def _saved(metrics: Metrics) -> Claim:
    at = At("spiral")
    ours, full = flops_at(metrics, at), flops_at(metrics, at, "full_resolution_flops")
    saved = 1 - ours / full
    known = math.isfinite(saved)
    return PAPER.claim(
        "it takes fewer FLOPs than the same loops at full resolution",
        "above 0 (counted, no interval)",
        f"{saved:.1%} of the forward FLOPs saved" if known else "—",
        Estimate(saved),
        saved > 0 if known else None,
    )
