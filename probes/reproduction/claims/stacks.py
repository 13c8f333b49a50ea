"""What is said of recurrent depth (Huginn) and of loops over the whole stack (LT, FLT)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from probes.reproduction.claims.base import Claim, Paper
from probes.reproduction.claims.dynamics import converges
from probes.reproduction.comparisons import At, Estimate
from probes.reproduction.store import Metrics, number, numbers

HUGINN = Paper("Huginn", "arXiv 2502.05171")
FLT = Paper("Fully Looped", "arXiv 2605.18797")
STARS = Paper("STARS", "arXiv 2605.26733")
ABOUT = ("huginn", "lt", "flt")
SPIKE, RISE = 10.0, 0.5
"""A training is unstable where its gradient norm passes this multiple of its median in the second half, or
its loss ends this many nats above its lowest."""


def claims(metrics: Metrics) -> list[Claim]:
    """Huginn, then FLT."""
    return [
        HUGINN.lower(
            metrics, "more iterations at test time lower the loss, up to the depth of training",
            At("huginn"), At("huginn", 1), ((At("0pt"), At("0pt", 1)),),
        ),
        HUGINN.lower(
            metrics, "iterations beyond the depth of training lower it further",
            At("huginn", 16), At("huginn"), ((At("0pt", 16), At("0pt")), (At("abbie-d", 16), At("abbie-d"))),
        ),
        converges(HUGINN, metrics, "huginn", "the read-out settles: read-out distance", "readout"),
        _stability(metrics),
        FLT.lower(
            metrics, "FLT is better than the plain Looped Transformer at the same number of loops",
            At("flt"), At("lt"), ((At("flt-res"), At("lt")), (At("lt-ia"), At("lt"))),
        ),
        FLT.lower(
            metrics, "attention injection is better than residual injection", At("flt"), At("flt-res"),
        ),
        STARS.unmeasured(
            "a penalty on the loop's Jacobian keeps deeper loops than those trained usable",
            "the recipe exists (`jacobian_weight`); no run of this comparison uses it",
        ),
    ]  # fmt: skip


@dataclass(frozen=True)
class Course:
    """How one short training at K went."""

    n_iters: int
    unstable: str
    """Why it counts as unstable; empty if it does not."""
    end: float
    """Mean loss of the last tenth."""
    spike: float
    """Largest gradient norm of the second half over its median."""


def courses(metrics: Metrics, family: str) -> list[Course]:
    """By K."""
    stored = [metrics.values(family, part) for part in metrics.parts(family, "stability")]
    return [course(values) for values in stored if values is not None]


def course(values: dict[str, Any]) -> Course:
    """Whether the training of one stability file was stable."""
    loss, gradient = numbers(values["loss"]), numbers(values["gradient"])
    k = values["n_iters"]
    if values["diverged_at"] is not None or not len(loss):
        return Course(k, f"diverged at step {values['diverged_at']}", np.nan, np.nan)
    window = max(1, len(loss) // 10)
    smooth = np.convolve(loss, np.full(window, 1 / window), mode="valid")
    half = gradient[len(gradient) // 2 :]
    spike = number(float(half.max() / np.median(half)))
    reasons = []
    if spike > SPIKE:
        reasons.append(f"gradient spikes to {spike:.0f} times its median")
    if smooth[-1] - smooth.min() > RISE:
        reasons.append(f"loss ends {smooth[-1] - smooth.min():.2f} nats above its lowest")
    return Course(k, ", ".join(reasons), float(smooth[-1]), spike)


def _stability(metrics: Metrics) -> Claim:
    by_k = {family: {c.n_iters: c for c in courses(metrics, family)} for family in ("lt", "flt")}
    shared = sorted(by_k["lt"].keys() & by_k["flt"].keys())
    told = "; ".join(
        f"K={k}: lt {by_k['lt'][k].unstable or 'stable'}, flt {by_k['flt'][k].unstable or 'stable'}"
        for k in shared
    )
    apart = [k for k in shared if by_k["lt"][k].unstable and not by_k["flt"][k].unstable]
    return FLT.claim(
        "with many loops training LT is unstable where FLT is not",
        f"some K at which LT diverges, spikes above {SPIKE:g} times its median gradient or ends "
        f"{RISE:g} nats above its lowest loss, and FLT does not",
        told or "—",
        Estimate(),
        bool(apart) if shared else None,
    )
