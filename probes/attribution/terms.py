"""Terms of a sum as they come in, one row each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from probes import numerics


class Terms:
    """Grows by the components of one block at a time; numbers stay where the model is until the end."""

    def __init__(self) -> None:
        self.stage: list[str] = []
        self.component: list[str] = []
        self._iteration: list[int] = []
        self._block: list[int] = []
        self._values: list[Tensor] = []
        self._direct: list[Tensor] = []

    def add(
        self,
        stage: str,
        k: int,
        block: int,
        components: Sequence[str],
        values: Tensor,
        direct: Tensor,
    ) -> None:
        """`values` and `direct` [component, 2, batch, pos]: of the target and of the control."""
        n = len(components)
        self.stage += [stage] * n
        self.component += components
        self._iteration += [k] * n
        self._block += [block] * n
        self._values.append(values)
        self._direct.append(direct)

    def divide(self, scale: Tensor) -> None:
        """All that is there by the final norm's scale [batch, pos]."""
        for held in (self._values, self._direct):
            held[:] = [x / scale for x in held]

    def arrays(self, known: np.ndarray) -> dict[str, np.ndarray]:
        """Fields of the result; NaN where not `known` [batch, pos]."""
        values, direct = (
            np.where(known, numerics.host(torch.cat(held)), np.nan)
            for held in (self._values, self._direct)
        )
        return {
            "iteration": np.array(self._iteration),
            "block": np.array(self._block),
            "contribution": values[:, 0],
            "random_contribution": values[:, 1],
            "direct": direct[:, 0],
        }
