"""Halting: when a token may stop iterating. Policies are small stateless objects; see `policy.py`."""

from __future__ import annotations

from abbie_lens.errors import InputError, nearest
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, fires_at
from abbie_lens.halting.rules import (
    RULES,
    ArgmaxStable,
    Cosine,
    DirectionDistance,
    EntropyDifference,
    FixedK,
    FixedPointResidual,
    KLDivergence,
    RawDistance,
    ReadoutDistance,
    RelativeDistance,
)


def policy(name: str, **settings: object) -> HaltingPolicy:
    """The rule called `name`, with its default or the given settings. Errors: InputError for an unknown one."""
    if name not in RULES:
        raise InputError(
            f"rule={name!r}: expected one of {', '.join(RULES)}.{nearest(name, RULES)}"
        )
    return RULES[name](**settings)  # type: ignore[arg-type]


__all__ = [
    "RULES",
    "ArgmaxStable",
    "Cosine",
    "Decision",
    "DirectionDistance",
    "EntropyDifference",
    "FixedK",
    "FixedPointResidual",
    "HaltingPolicy",
    "KLDivergence",
    "Observation",
    "RawDistance",
    "ReadoutDistance",
    "RelativeDistance",
    "fires_at",
    "policy",
]
