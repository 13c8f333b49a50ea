"""Rules that compare an iteration with the one looked at before it."""

from __future__ import annotations

from torch import Tensor

from abbie_lens.halting.measures import wide
from abbie_lens.halting.policy import Decision, HaltingPolicy, Observation, undefined


class SuccessiveRule(HaltingPolicy):
    """A rule that compares an iteration with the one before it; undefined at k = 0."""

    def measure(self, current: Observation, previous: Decision | None) -> Tensor:
        if previous is None:
            return undefined(current.z)
        return wide(self.compare(previous.observation, current))

    def compare(self, previous: Observation, current: Observation) -> Tensor:
        """[...] how far `current` is from `previous`."""
        raise NotImplementedError
