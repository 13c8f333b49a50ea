"""Which token comes next: the arg max, or a draw from the kept head of a distribution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from abbie_lens.errors import DivergedError, InputError


def choose(
    logits: Tensor,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """One token id from logits [vocab]: the arg max at temperature 0, else a draw from the kept head of the distribution."""
    if not torch.isfinite(logits).all():
        raise DivergedError(
            "generate: the logits are not finite; try fewer iterations or a wider dtype."
        )
    if temperature == 0:
        return logits.argmax()
    logits = logits.float() / temperature
    if top_k is not None:
        logits = logits.masked_fill(
            logits < logits.topk(min(top_k, logits.numel())).values[-1], float("-inf")
        )
    if top_p is not None:
        ordered, index = logits.softmax(-1).sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p  # the token that crosses top_p is kept
        logits = logits.masked_fill(
            torch.zeros_like(beyond).scatter(-1, index, beyond), float("-inf")
        )
    return torch.multinomial(logits.softmax(-1), 1, generator=generator)[0]


@dataclass(frozen=True)
class Sampling:
    """How tokens are chosen; a row of a batch draws from its own generator, of seed `seed` + its number."""

    temperature: float
    top_k: int | None
    top_p: float | None
    seed: int | None

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise InputError(f"temperature={self.temperature}: expected a finite number >= 0.")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k={self.top_k}: expected at least 1.")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p}: expected 0 < top_p <= 1.")

    def generators(self, batch: int, device: torch.device) -> list[torch.Generator | None]:
        """One for each row of a batch; None where no seed is given."""
        if self.seed is None:
            return [None] * batch
        return [torch.Generator(device=device).manual_seed(self.seed + row) for row in range(batch)]

    def __call__(self, logits: Tensor, generator: torch.Generator | None) -> Tensor:
        """One token id from logits [vocab]. Errors: DivergedError for logits that are not finite."""
        return choose(logits, self.temperature, self.top_k, self.top_p, generator)
