"""What is said of the wider family: learned exits, routing, latent thoughts, stable injections, adapters, nests."""

from __future__ import annotations

from probes.reproduction.claims.base import Claim, Paper, text
from probes.reproduction.claims.dynamics import converges
from probes.reproduction.comparisons import At, Estimate
from probes.reproduction.store import Metrics

ABOUT = (
    "ouro", "ut-act", "pondernet", "mor", "ponder-2", "parcae", "fprm", "loopus", "relaxed", "hrm",
    "retrofit",
)  # fmt: skip
OURO = Paper("Ouro", "arXiv 2510.25741")
UT = Paper("Universal Transformer with ACT", "arXiv 1807.03819")
PONDERNET = Paper("PonderNet", "arXiv 2107.05407")
MOR = Paper("Mixture-of-Recursions", "arXiv 2507.10524")
PONDER_2 = Paper("PonderLM-2", "arXiv 2509.23184")
PARCAE = Paper("Parcae", "arXiv 2604.12946")
FPRM = Paper("FPRM", "arXiv 2606.18206")
LOOPUS = Paper("LoopUS", "arXiv 2605.11011")
RELAXED = Paper("Relaxed recursion", "arXiv 2410.20672")
HRM = Paper("HRM-Text", "model card")
RETROFIT = Paper("Retrofitted recurrence", "arXiv 2511.07384")
EXIT = 0.5
"""Threshold of F_k at which exits are judged."""


def claims(metrics: Metrics) -> list[Claim]:
    """Paper by paper; every loss is held against the plain transformer of equal size, tokens and batches."""
    std = At("std")
    return [
        OURO.lower(
            metrics, "more loops lower the loss up to the number trained",
            At("ouro"), At("ouro", 1),
        ),
        _falls_off(metrics, "the loss rises again beyond it"),
        *(_gate(metrics, paper, family) for paper, family in (
            (OURO, "ouro"), (UT, "ut-act"), (PONDERNET, "pondernet"))),
        _plain(metrics, MOR, "mor", "routing tokens to few recursions beats a plain transformer"),
        PONDER_2.lower(
            metrics, "a latent thought a token beats a plain transformer at equal tokens",
            At("ponder-2"), std, ((At("abbie-c"), std),),
        ),
        PARCAE.lower(
            metrics, "more loops lower the loss up to the mean depth trained", At("parcae"), At("parcae", 1),
        ),
        converges(PARCAE, metrics, "parcae", "the state settles: raw distance", "raw"),
        converges(FPRM, metrics, "fprm", "the loop ends in a fixed point: raw distance", "raw"),
        _plain(metrics, FPRM, "fprm", "fixed-point recurrence beats a plain transformer"),
        LOOPUS.unmeasured(
            "a pretrained body gains from being looped behind a gate",
            "trained from scratch here, so there is no pretrained body",
        ),
        _plain(metrics, LOOPUS, "loopus", "trained from scratch, gated updates beat a plain transformer"),
        RELAXED.lower(
            metrics, "an adapter for every iteration lowers the loss of plainly shared weights",
            At("relaxed"), At("abbie-c"), ((At("relaxed"), std),),
        ),
        _plain(metrics, HRM, "hrm", "two nested loops beat a plain transformer"),
        RETROFIT.unmeasured(
            "recurrence cut out of a pretrained model is cheaper than recurrence from scratch",
            "trained from scratch here: the comparison has no pretrained model of its size",
        ),
        RETROFIT.lower(
            metrics, "more iterations lower the loss up to the depth of training", At("retrofit"), At("retrofit", 1),
        ),
    ]  # fmt: skip


def _plain(metrics: Metrics, paper: Paper, family: str, claim: str) -> Claim:
    std = At("std")
    return paper.lower(
        metrics, f"{claim} at equal tokens", At(family), std, ((At("abbie-c"), std),)
    )


def _falls_off(metrics: Metrics, claim: str) -> Claim:
    told = OURO.lower(metrics, claim, At("ouro"), At("ouro", 8))
    return OURO.claim(
        claim,
        "NLL at the trained depth below that at r = 8, interval too",
        told.measured,
        told.estimate,
        told.estimate.high < 0 if told.estimate.known else None,
    )


def _gate(metrics: Metrics, paper: Paper, family: str) -> Claim:
    """The claim that the gate's choice of tokens is worth something at the depth it spends."""
    stored = metrics.values(family, "gates")
    claim = "exits by the learned gate beat one depth for all tokens at equal mean depth"
    rule = f"NLL at F ≥ {EXIT:g} lower, interval below 0"
    chosen = [at for at in stored["at"] if at["threshold"] == EXIT] if stored else []
    if not stored or not chosen:
        return paper.claim(claim, rule, "—", Estimate(), None)
    (at,) = chosen
    if at["mean_steps"] in (1, stored["n_iters"]):
        told = f"every token exits at k = {at['mean_steps']:g}: the gate chooses nothing"
        return paper.claim(claim, rule, told, Estimate(), False)
    found = Estimate.of(at["over_fixed"])
    told = (
        f"mean exit {at['mean_steps']:.2f} of {stored['n_iters']}: {text(found, 4)} nats; "
        f"rank correlation of expected exit with NLL {text(Estimate.of(stored['spearman']))}"
    )
    return paper.claim(claim, rule, told, found, found.high < 0 if found.known else None)
