"""A claim of a paper beside what was measured, and the rule by which it holds or does not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from probes.reproduction.comparisons import At, Estimate, difference, trained_depth
from probes.reproduction.store import Metrics

HOLDS, FAILS, UNKNOWN = "holds", "does not hold at this scale", "not measured"


@dataclass(frozen=True)
class Claim:
    """One row."""

    paper: str
    source: str
    claim: str
    rule: str
    """When it holds, said before it is measured."""
    measured: str
    """What was measured, with the control beside it."""
    estimate: Estimate
    """The number judged, with its interval; NaN where none belongs to it."""
    verdict: str


@dataclass(frozen=True)
class Paper:
    """Where claims come from."""

    name: str
    source: str

    def claim(
        self, claim: str, rule: str, measured: str, estimate: Estimate, holds: bool | None
    ) -> Claim:
        """A row; `holds` None says that it was not measured."""
        verdict = UNKNOWN if holds is None else HOLDS if holds else FAILS
        return Claim(self.name, self.source, claim, rule, measured, estimate, verdict)

    def unmeasured(self, claim: str, why: str) -> Claim:
        """A claim that this comparison says nothing about."""
        return self.claim(claim, "—", why, Estimate(), None)

    def lower(
        self, metrics: Metrics, claim: str, a: At, b: At, controls: tuple[tuple[At, At], ...] = ()
    ) -> Claim:
        """The claim that `a` has the lower held-out NLL than `b`; other pairs are told beside."""
        judged = difference(metrics, a, b)
        told = [_pair(metrics, *pair) for pair in ((a, b), *controls)]
        holds = judged.high < 0 if judged.known else None
        return self.claim(
            claim,
            "NLL lower, interval below 0",
            "; control: ".join(told[:2]) + "".join(f"; {more}" for more in told[2:]),
            judged,
            holds,
        )


def text(estimate: Estimate, digits: int = 3, sign: bool = True) -> str:
    """ "+0.123 (+0.100 … +0.150)"."""
    form = f"{'+' if sign else ''}.{digits}f"
    if math.isnan(estimate.value):
        return "—"
    if math.isnan(estimate.low) or math.isnan(estimate.high):
        return format(estimate.value, form)
    return f"{estimate.value:{form}} ({estimate.low:{form}} … {estimate.high:{form}})"


def name(metrics: Metrics, at: At) -> str:
    """ "abbie-d r=2"."""
    depth = at.n_iters if at.n_iters is not None else trained_depth(metrics, at.family)
    return f"{at.family} r={'?' if depth is None else depth}"


def _pair(metrics: Metrics, a: At, b: At) -> str:
    return f"{name(metrics, a)} − {name(metrics, b)}: {text(difference(metrics, a, b))} nats"
