"""Rules that look at one deep run: what they see after every iteration, and what they say of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from abbie_lens import halting as rules_module
from abbie_lens.errors import InputError
from abbie_lens.halting import Decision, HaltingPolicy, Observation
from probes import running
from probes.inputs import Inputs


def watched(
    model: Any, inputs: Inputs, policies: Sequence[HaltingPolicy]
) -> Iterator[tuple[Observation, torch.Tensor]]:
    """After 0, 1, … r iterations: what the rules saw, and their values [rule, batch, pos] on the host; without gradients."""
    needs = frozenset().union(*(policy.needs for policy in policies))
    decisions: list[Decision | None] = [None] * len(policies)
    for state in running.states(model, inputs):
        with torch.no_grad():
            seen = Observation(
                state.k,
                state.z,
                running.normed(model, state.z) if "normed" in needs else None,
                model.readout(state),
                running.exit_cdf(model, state) if "exit_cdf" in needs else None,
            )
            decisions = [
                policy.init(seen) if before is None else policy.check(before, seen)
                for policy, before in zip(policies, decisions, strict=True)
            ]
            values = torch.stack([d.value.cpu() for d in decisions if d is not None])
        yield seen, values


def named(rules: Sequence[str | HaltingPolicy]) -> list[HaltingPolicy]:
    """The rules, by name or as they are. Errors: InputError for none, an unknown one, or a name twice."""
    if isinstance(rules, str) or not rules:
        raise InputError(f"rules={rules!r}: expected a non-empty list of names or policies.")
    policies = [rules_module.policy(rule) if isinstance(rule, str) else rule for rule in rules]
    names = [policy.name for policy in policies]
    if len(set(names)) < len(names):
        raise InputError(f"rules: {names} holds a name twice; replay each rule once.")
    return policies
