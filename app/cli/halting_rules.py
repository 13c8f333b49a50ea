"""Halting rules as they are spelt on the command line: a name, or `any:` and `all:` of several, with thresholds by value."""

from __future__ import annotations

from collections.abc import Sequence

from abbie_lens import halting
from abbie_lens.errors import InputError
from abbie_lens.halting import HaltingPolicy

COMBINATIONS = {"any": halting.AnyOf, "all": halting.AllOf}


def policies(spelt: Sequence[str], thresholds: Sequence[str]) -> list[HaltingPolicy]:
    """Rules of names and combinations; thresholds as `rule=value`, wherever that rule stands.

    Errors: InputError for an unknown rule or combination, a threshold that is no number or of a rule that is not there.
    """
    levels = dict(map(_threshold, thresholds))
    used: set[str] = set()

    def one(name: str) -> HaltingPolicy:
        if name in levels:
            used.add(name)
            return halting.policy(name, threshold=levels[name])
        return halting.policy(name)

    found = []
    for text in spelt:
        kind, colon, members = text.partition(":")
        if not colon:
            found.append(one(text))
            continue
        if kind not in COMBINATIONS:
            raise InputError(
                f"rule={text!r}: expected a rule's name, or any:RULE,RULE or all:RULE,RULE."
            )
        rules = tuple(one(name.strip()) for name in members.split(","))
        found.append(COMBINATIONS[kind](policies=rules))
    for name in levels.keys() - used:
        raise InputError(
            f"threshold={name}={levels[name]:g}: {name!r} is none of the rules judged."
        )
    return found


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    try:
        return name.strip(), float(value)
    except ValueError:
        raise InputError(f"threshold={text!r}: expected RULE=NUMBER, such as kl=0.01.") from None
