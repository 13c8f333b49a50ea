"""Up to which iteration a token's numbers mean something: not beyond a state that the model could not norm."""

from __future__ import annotations

from typing import Any

import numpy as np

from probes import numerics
from probes.inputs import Inputs

NEVER = -1


class Trust:
    """Follows a run state by state and remembers the tokens that are lost.

    A token is lost from the first state that is NaN, infinite, or too large for the model's own norms:
    whatever follows is not the model's doing any more.
    """

    def __init__(self, model: Any, inputs: Inputs) -> None:
        self.valid, self.largest = inputs.valid, numerics.largest_norm(model.dtype)
        self.diverged_at = np.full(self.valid.shape, NEVER)
        """[batch, pos] first iteration whose state is NaN or infinite; -1 if none."""
        self.overflow_at = self.diverged_at.copy()
        """[batch, pos] first iteration whose state is too large for the model's own norms; -1 if none."""

    def see(self, k: int, norm: np.ndarray) -> np.ndarray:
        """[batch, pos] which tokens are real and not lost, after the state k with these norms."""
        broken = self.valid & ~np.isfinite(norm)
        self.diverged_at[broken & (self.diverged_at == NEVER)] = k
        self.overflow_at[self.valid & (norm >= self.largest) & (self.overflow_at == NEVER)] = k
        return self.valid & (self.diverged_at == NEVER) & (self.overflow_at == NEVER)
