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
    """Two rows a family, on the hops trained on and beyond them, and one for each learned gate."""
    families = asked(metrics)
    return [
        *(_row(metrics, family, beyond) for family in families for beyond in (False, True)),
        *(_gate(metrics, family) for family in families if family in GATED),
    ]


def asked(metrics: Metrics) -> list[str]:
    """Families of the comparison that a model is trained on the task for."""
    settings = metrics.config()["measures"].get(MEASURE) or {"families": {}}
    return [f for f in metrics.families() if f in settings["families"]]


def _row(metrics: Metrics, family: str, beyond: bool) -> Claim:
    what = "beyond those trained on" if beyond else "of those trained on"
    claim = f"{family}: more iterations solve more hops, {what}"
    rule = "best depth against r = 1 at the most hops: intervals apart"
    stored = metrics.values(family, MEASURE)
    if stored is None:
        return PAPER.claim(claim, rule, "—", Estimate(), None)
    stored = stored["evaluation"]
    hops = stored["difficulty"][-1] if beyond else stored["task"]["train_difficulty"][1]
    low, high, best = accuracy_gain(stored, hops)
    known = bool(np.isfinite([low.value, high.value]).all())
    told = f"{hops} hops: r=1 {text(low, sign=False)}, r={best} {text(high, sign=False)}"
    gain = Estimate(high.value - low.value, high.low - low.high, high.high - low.low)
    return PAPER.claim(claim, rule, told, gain, gain.low > 0 if known else None)


def _gate(metrics: Metrics, family: str) -> Claim:
    claim = f"{family}: the gate gives more iterations to answers that need more hops"
    stored = metrics.values(family, MEASURE)
    spearman = None if stored is None else stored["spearman"]
    found = Estimate() if spearman is None else Estimate(*numbers(spearman))
    known = bool(np.isfinite(found.value))
    told = f"Spearman of exit and hops {text(found)}" if known else "—"
    if spearman is not None and not known:
        told = "all answers take the same number of iterations"
    holds = None if spearman is None else found.low > 0
    return PAPER.claim(claim, "interval above 0", told, found, holds)


def accuracy_gain(stored: dict[str, Any], hops: int) -> tuple[Estimate, Estimate, int]:
    """Accuracy on questions of so many hops at the smallest depth and at the best one, and that depth."""
    column = stored["difficulty"].index(hops)
    cells = np.stack([numbers(stored[name])[:, column] for name in ("accuracy", "low", "high")])
    if not np.isfinite(cells[0]).any():
        return Estimate(), Estimate(), 0
    best = int(np.nanargmax(cells[0]))
    least = int(np.argmin(stored["n_iters"]))
    return Estimate(*cells[:, least]), Estimate(*cells[:, best]), stored["n_iters"][best]
