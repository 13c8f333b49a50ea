"""Which logit is taken apart: of a token, or of one token less another's, at chosen positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from abbie_lens.errors import InputError
from abbie_lens.halting.measures import wide
from probes.inputs import Inputs
from probes.lenses.targets import random_controls, target_ids


def chosen_positions(positions: Any, inputs: Inputs) -> list[int]:
    """Columns to look at, counted from 0; all of them for None. Errors: InputError."""
    n = inputs.tokens.shape[1]
    if positions is None:
        return list(range(n))
    chosen = [positions] if isinstance(positions, int) else list(positions)
    for p in chosen:
        if isinstance(p, bool) or not isinstance(p, int) or not -n <= p < n:
            raise InputError(f"positions: {p!r}; expected integers from {-n} to {n - 1}.")
    if not chosen:
        raise InputError("positions=[]: expected at least one.")
    return [p % n for p in chosen]


@dataclass(frozen=True)
class Target:
    """Token ids [batch, pos] of the chosen positions; -1 where there is none."""

    ids: Tensor
    versus: Tensor | None
    """What is subtracted; None for a logit by itself."""
    random: Tensor
    """The control, in the place of `ids`."""

    @classmethod
    def of(
        cls,
        model: Any,
        target: Any,
        versus: Any,
        predicted: Tensor | None,
        inputs: Inputs,
        at: list[int],
        seed: int,
    ) -> Target:
        """`predicted` [batch, pos of `at`] where `target` is None. Errors: InputError."""
        n_vocab = model.cfg.d_vocab
        none = torch.full_like(inputs.tokens, -1)
        given = lambda what: target_ids(model, what, none, n_vocab)[0][:, at]  # noqa: E731
        ids = given(target) if predicted is None else predicted
        ids = ids.masked_fill(~torch.as_tensor(inputs.valid, device=ids.device)[:, at], -1)
        other = None if versus is None else given(versus)
        if other is not None and bool((other == ids).all()):
            raise InputError("versus: the same token as target; their difference is 0 everywhere.")
        return cls(ids, other, random_controls(ids, n_vocab, seed))

    def directions(self, weight: Tensor) -> Tensor:
        """[2, batch, pos, d_model] what the normed stream is read along: for the target, and for the control."""
        rows = [wide(weight[ids.clamp_min(0)].detach()) for ids in (self.ids, self.random)]
        taken = 0 if self.versus is None else wide(weight[self.versus.clamp_min(0)].detach())
        return torch.stack(rows) - taken

    def of_logits(self, logits: Tensor) -> Tensor:
        """[2, ...] the logits [batch, pos, d_vocab] that `directions` read."""
        pick = lambda ids: wide(logits.gather(-1, ids.clamp_min(0)[..., None])[..., 0])  # noqa: E731
        rows = torch.stack([pick(self.ids), pick(self.random)])
        return rows if self.versus is None else rows - pick(self.versus)
