"""Adam with moments that can be stored by name (arXiv 1412.6980): torch's keeps them by parameter object."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

_DECAY = 0.9, 0.999
_EPS = 1e-12
"""Small: gradients of a mean KL are, and a row that has none moves nowhere."""


class Adam:
    """Moments of some tensors, and how many steps were made."""

    def __init__(self, values: Sequence[Tensor], step: int = 0) -> None:
        self.step = step
        self.moments = [torch.zeros_like(v) for v in values for _ in _DECAY]

    def __call__(
        self, values: Sequence[Tensor], gradients: Sequence[Tensor], rate: float
    ) -> list[Tensor]:
        """The values one step further."""
        self.step += 1
        moved = []
        for i, (value, gradient) in enumerate(zip(values, gradients, strict=True)):
            first, second = self.moments[2 * i : 2 * i + 2]
            first.lerp_(gradient, 1 - _DECAY[0])
            second.lerp_(gradient.square(), 1 - _DECAY[1])
            mean, square = (
                m / (1 - d**self.step) for m, d in zip((first, second), _DECAY, strict=True)
            )
            moved.append(value - rate * mean / (square.sqrt() + _EPS))
        return moved
