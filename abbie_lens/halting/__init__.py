"""Halting: when a token may stop iterating. Policies are small stateless objects; see `policy.py`."""

from __future__ import annotations

from typing import Any

from abbie_lens.errors import InputError, nearest
from abbie_lens.halting.combine import AllOf, AnyOf
from abbie_lens.halting.exit_probe import ExitProbe
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, fires_at
from abbie_lens.halting.rules import (
    ACT,
    OF_GATES,
    RULES,
    ArgmaxStable,
    Cosine,
    DirectionDistance,
    EntropyDifference,
    FixedK,
    FixedPointResidual,
    KLDivergence,
    LearnedGate,
    MinPKL,
    RawDistance,
    ReadoutDistance,
    RelativeDistance,
    SecondOrder,
)


def policy(name: str, **settings: object) -> HaltingPolicy:
    """The rule called `name`, with its default or the given settings. Errors: InputError for an unknown one."""
    if name not in RULES:
        raise InputError(
            f"rule={name!r}: expected one of {', '.join(RULES)}.{nearest(name, RULES)}"
        )
    return RULES[name](**settings)  # type: ignore[arg-type]


def rules_for(*models: Any) -> list[str]:
    """Names of the rules that say something of every one of `models`: those of gates only where all have one."""
    gated = all(_is_gated(model) for model in models)
    return [name for name in RULES if gated or name not in OF_GATES]


def _is_gated(model: Any) -> bool:
    loop = getattr(getattr(model, "cfg", None), "loop", None)
    return loop is not None and loop.gated


__all__ = [
    "ACT",
    "OF_GATES",
    "RULES",
    "AllOf",
    "AnyOf",
    "ArgmaxStable",
    "Cosine",
    "Decision",
    "DirectionDistance",
    "EntropyDifference",
    "ExitProbe",
    "FixedK",
    "FixedPointResidual",
    "HaltingPolicy",
    "KLDivergence",
    "LearnedGate",
    "MinPKL",
    "Observation",
    "RawDistance",
    "ReadoutDistance",
    "RelativeDistance",
    "SecondOrder",
    "fires_at",
    "policy",
    "rules_for",
]
