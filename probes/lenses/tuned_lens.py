"""The tuned lens itself: U N(x + A x + b) (ANALYSES 4; arXiv 2303.08112)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from probes.lenses.fitted import FittedLens
from probes.lenses.identity import identity


@dataclass(frozen=True, eq=False, kw_only=True)
class TunedLens(FittedLens):
    """A_k and b_k of every row; all zero it is the logit lens.

    b_k is kept as `scales` s_k times `biases`, s_k the stream's own size there, which in a doubling loop leaves float16.
    """

    kind: ClassVar[str] = "tuned"
    tensors: ClassVar[tuple[str, ...]] = ("matrices", "biases", "scales")

    biases: Tensor
    """[row, d_model]."""
    scales: Tensor
    """[row]."""

    @classmethod
    def zero(
        cls, model: Any, n_iters: int, addresses: Sequence[str], scales: Tensor | None = None
    ) -> Self:
        """The logit lens as a tuned lens."""
        n, width = len(addresses), model.cfg.d_model
        return cls(
            model=identity(model),
            n_iters=n_iters,
            addresses=tuple(addresses),
            matrices=torch.zeros(n, width, width, device=model.device),
            biases=torch.zeros(n, width, device=model.device),
            scales=torch.ones(n, device=model.device) if scales is None else scales,
        )

    def apply(self, address: str, x: Tensor) -> Tensor:
        """x + A x + b, in float32 at least."""
        i = self.row(address)
        return translated(x, self.matrices[i], self.biases[i], self.scales[i])

    def serves(self, n_iters: int) -> bool:
        """Rows of a shorter run too: they are led to the prediction at the depth it was trained for."""
        return n_iters <= self.n_iters

    @property
    def story(self) -> str:
        """Depth, text and tokens of the training."""
        seen = self.settings.get("n_tokens")
        text = (
            "" if seen is None else f", on {seen:,} tokens of {self.settings.get('data', 'text')}"
        )
        return f"Trained towards the prediction at r = {self.n_iters}{text}"


def translated(x: Tensor, matrix: Tensor, bias: Tensor, scale: Tensor) -> Tensor:
    """x + A x + s b for x [..., d_model], back in x's dtype."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    move = lambda t: t.to(wide.device, wide.dtype)  # noqa: E731
    # Adding in one go: x itself is not multiplied, so that a lens of zeros changes nothing.
    return (wide + wide @ move(matrix).T + move(scale) * move(bias)).to(x.dtype)
