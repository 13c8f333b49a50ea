"""The rules of the literature, by what they look at: states, predictions, the loop's own gate."""

from __future__ import annotations

from abbie_lens.halting.policy import HaltingPolicy
from abbie_lens.halting.rules.gates import ACT, LearnedGate
from abbie_lens.halting.rules.predictions import (
    ArgmaxStable,
    EntropyDifference,
    KLDivergence,
    MinPKL,
)
from abbie_lens.halting.rules.states import (
    Cosine,
    DirectionDistance,
    FixedK,
    FixedPointResidual,
    RawDistance,
    ReadoutDistance,
    RelativeDistance,
    SecondOrder,
)

RULES: dict[str, type[HaltingPolicy]] = {
    rule.name: rule
    for rule in (
        EntropyDifference,
        RawDistance,
        RelativeDistance,
        DirectionDistance,
        ReadoutDistance,
        KLDivergence,
        MinPKL,
        ArgmaxStable,
        Cosine,
        SecondOrder,
        FixedPointResidual,
        FixedK,
        LearnedGate,
        ACT,
    )
}
"""Every rule by name."""
OF_GATES = frozenset(name for name, rule in RULES.items() if "exit_cdf" in rule.needs)
"""Names of the rules that say something only of a loop with a learned gate."""

__all__ = [
    "ACT",
    "OF_GATES",
    "RULES",
    "ArgmaxStable",
    "Cosine",
    "DirectionDistance",
    "EntropyDifference",
    "FixedK",
    "FixedPointResidual",
    "KLDivergence",
    "LearnedGate",
    "MinPKL",
    "RawDistance",
    "ReadoutDistance",
    "RelativeDistance",
    "SecondOrder",
]
