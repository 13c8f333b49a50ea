"""What is said of feeding predictions back (PonderLM) and of learned halting (AdaPonderLM)."""

from __future__ import annotations

from typing import Any

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.comparisons import At, Estimate
from probes.reproduction.store import Metrics

PONDER = Paper("PonderLM", "arXiv 2505.20674")
ADAPONDER = Paper("AdaPonderLM", "arXiv 2603.01914")
ABOUT = ("ponder", "adaponder")
SAVED, LOST = 0.05, 0.01
"""Half of what the paper saves, and the nats of NLL (about 1 % of perplexity) that still count as equal."""


def claims(metrics: Metrics) -> list[Claim]:
    """PonderLM, then AdaPonderLM."""
    stored = metrics.values("adaponder", "pondering")
    return [
        PONDER.lower(
            metrics, "pondering lowers perplexity below a plain transformer's at equal tokens",
            At("ponder"), At("std"), ((At("abbie-d"), At("std")), (At("lt"), At("std"))),
        ),
        PONDER.lower(
            metrics, "the second update still helps", At("ponder", 2), At("ponder", 1),
        ),
        _saves(stored),
        _rank(stored, "spearman", "tokens with more updates have the higher NLL (easy ones halt)"),
        _rank(stored, "gate_spearman", "gate values rise with a token's NLL, whether or not any halts"),
        _halted(stored),
        *_against(stored, "learned", "the learned mask"),
        *(
            claim
            for label in _labels(stored)
            for claim in _against(stored, label, f"the gates cut to {label[5:]} of all updates")
        ),
        ADAPONDER.unmeasured(
            "gates must be specific to their iteration",
            "the shared gate is no family here",
        ),
    ]  # fmt: skip


def _rule(stored: dict[str, Any], rule: str, compared_with: str) -> dict[str, Any]:
    found = [
        r for r in stored["rules"] if r["rule"] == rule and r["compared_with"] == compared_with
    ]
    return found[0]


def _labels(stored: dict[str, Any] | None) -> list[str]:
    if stored is None:
        return []
    return [r["rule"] for r in stored["rules"] if r["rule"].startswith("gate ")]


def _saves(stored: dict[str, Any] | None) -> Claim:
    claim = "about 10 % of the passes are saved at equal perplexity"
    rule = (
        f"at least {SAVED:.0%} saved, NLL at most {LOST:g} nats higher, while halting every token at "
        "once costs more than that; intervals too"
    )
    if stored is None:
        return ADAPONDER.claim(claim, rule, "—", Estimate(), None)
    learned = _rule(stored, "learned", "learned")
    n = stored["max_updates"]
    saved = (n - learned["mean_updates"]) / (n + 1)
    lost, at_once = (
        Estimate.of(found) for found in (learned["over_none"], stored["depth_over_none"][0])
    )
    return ADAPONDER.claim(
        claim,
        rule,
        f"{saved:.1%} of {n + 1} passes saved ({learned['mean_updates']:.3f} of {n} updates a token), "
        f"NLL {text(lost, 4)} nats against no halting; all halting at once {text(at_once, 4)}",
        Estimate(saved),
        saved >= SAVED and lost.high <= LOST < at_once.low,
    )


def _rank(stored: dict[str, Any] | None, key: str, claim: str) -> Claim:
    found = Estimate() if stored is None else Estimate.of(stored[key])
    told = (
        f"Spearman {text(found)}" if found.known else "all tokens take the same number of updates"
    )
    holds = found.low > 0 if found.known else None
    return ADAPONDER.claim(claim, "interval above 0", "—" if stored is None else told, found, holds)


def _halted(stored: dict[str, Any] | None) -> Claim:
    found = Estimate() if stored is None else Estimate.of(stored["halted_minus_active"])
    told = f"halted − others: {text(found)} nats" if found.known else "no token halts, or all do"
    return ADAPONDER.claim(
        "tokens that halt early have the lower NLL",
        "interval below 0",
        "—" if stored is None else told,
        found,
        found.high < 0 if found.known else None,
    )


def _against(stored: dict[str, Any] | None, rule: str, what: str) -> list[Claim]:
    """Two rows: against random and against fixed pruning of equal mean updates."""
    rows = []
    for control in ("random", "fixed"):
        claim = f"{what} beats {control} pruning at equal mean updates"
        found, told = Estimate(), "—"
        if stored is not None:
            n, made = stored["max_updates"], _rule(stored, rule, rule)
            if 0 < made["mean_updates"] < n:
                found = Estimate.of(_rule(stored, control, rule)["over_compared"])
                told = f"{made['mean_updates']:.3f} of {n} updates: {text(found, 4)} nats"
            else:
                told = (
                    f"{made['mean_updates']:.3f} of {n} updates: nothing is pruned, or everything"
                )
        holds = found.high < 0 if found.known else None
        rows.append(ADAPONDER.claim(claim, "NLL lower, interval below 0", told, found, holds))
    return rows
