"""Does depth help where it is needed? Accuracy on k-hop questions, and where a gate spends its updates."""

from __future__ import annotations

from typing import Any

import numpy as np

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.comparisons import Estimate
from probes.reproduction.store import Metrics, numbers

PAPER = Paper("Test bed", "k-hop pointer chasing")
MEASURE = "khop"
GATED = ("adaponder", "ouro", "ut-act", "pondernet")
"""Families whose gate decides how many iterations a token takes."""


def claims(metrics: Metrics) -> list[Claim]:
    """One row a family, and one for each learned gate."""
    families = asked(metrics)
    return [
        *(_row(metrics, family) for family in families),
        *(_gate(metrics, family) for family in families if family in GATED),
    ]


def asked(metrics: Metrics) -> list[str]:
    """Families of the comparison that a model is trained on the task for."""
    settings = metrics.config()["measures"].get(MEASURE) or {"families": {}}
    return [f for f in metrics.families() if f in settings["families"]]


def _row(metrics: Metrics, family: str) -> Claim:
    claim = f"{family}: more iterations solve more hops"
    rule = "best depth against r = 1 on the hardest questions: intervals apart"
    stored = metrics.values(family, MEASURE)
    if stored is None:
        return PAPER.claim(claim, rule, "—", Estimate(), None)
    stored = stored["evaluation"]
    low, high, best = accuracy_gain(stored)
    known = bool(np.isfinite([low.value, high.value]).all())
    hops = stored["difficulty"][-1]
    told = f"{hops} hops: r=1 {text(low, sign=False)}, r={best} {text(high, sign=False)}"
    gain = Estimate(high.value - low.value, high.low - low.high, high.high - low.low)
    return PAPER.claim(claim, rule, told, gain, gain.low > 0 if known else None)


def _gate(metrics: Metrics, family: str) -> Claim:
    claim = f"{family}: the gate gives more iterations to answers that need more hops"
    stored = metrics.values(family, MEASURE)
    spearman = None if stored is None else stored["spearman"]
    found = Estimate() if spearman is None else Estimate(*numbers(spearman))
    known = bool(np.isfinite(found.value))
    told = f"Spearman {text(found)}" if known else "—"
    if stored is not None and not known:
        told = "all answers take the same number of iterations"
    return PAPER.claim(claim, "interval above 0", told, found, found.low > 0 if known else None)


def accuracy_gain(stored: dict[str, Any]) -> tuple[Estimate, Estimate, int]:
    """Accuracy on the hardest questions at the smallest depth and at the best one, and that depth."""
    cells = np.stack([numbers(stored[name])[:, -1] for name in ("accuracy", "low", "high")])
    if not np.isfinite(cells[0]).any():
        return Estimate(), Estimate(), 0
    best = int(np.nanargmax(cells[0]))
    least = int(np.argmin(stored["n_iters"]))
    return Estimate(*cells[:, least]), Estimate(*cells[:, best]), stored["n_iters"][best]
