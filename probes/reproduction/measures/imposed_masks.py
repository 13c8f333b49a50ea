"""Rules of who goes on, imposed on a trained model through the sites of its gates and masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abbie_lens.hooks.points import Site
from abbie_lens.model import HookedLoopedTransformer

GATE, MASK = "loop.hook_gate", "loop.hook_mask"

Rule = Callable[[int, int, Tensor, Tensor], Tensor]
"""(update, first window of the batch, the model's own mask, its gate values) -> the mask, all [batch, pos, 1]."""


@dataclass(frozen=True)
class Run:
    nll: np.ndarray
    """[window, pos - 1]"""
    updates: np.ndarray
    """[window, pos - 1] of the position that predicts."""
    gates: np.ndarray
    """[update, window, pos - 1]"""

    @property
    def mean(self) -> float:
        return float(self.nll.mean())


class Runs:
    """The model under rules, on the same windows."""

    def __init__(self, model: HookedLoopedTransformer, tokens: Tensor, batch_size: int) -> None:
        self.model, self.tokens, self.batch_size = model, tokens, batch_size

    def __call__(self, rule: Rule) -> Run:
        parts: list[tuple[np.ndarray, ...]] = []
        for first in range(0, len(self.tokens), self.batch_size):
            batch = self.tokens[first : first + self.batch_size].to(self.model.device)
            with _imposed(self.model, rule, first) as (masks, gates), torch.no_grad():
                nll = self.model(batch, return_type="loss", loss_per_token=True)
            updates = torch.stack(masks).sum(0)[:, :-1, 0]
            shares = torch.stack(gates)[:, :, :-1, 0]
            parts.append((nll.double().cpu().numpy(), updates.cpu().numpy(), shares.cpu().numpy()))
        nll, updates, gates = zip(*parts, strict=True)
        return Run(np.concatenate(nll), np.concatenate(updates), np.concatenate(gates, axis=1))


@contextmanager
def _imposed(
    model: HookedLoopedTransformer, rule: Rule, first: int
) -> Iterator[tuple[list[Tensor], list[Tensor]]]:
    """Halt by `rule`, monotone; what the masks and gates then were."""
    masks: list[Tensor] = []
    gates: list[Tensor] = []

    def gate(value: Tensor, hook: Site) -> None:
        gates.append(value.detach())

    def mask(value: Tensor, hook: Site) -> Tensor:
        i = len(masks)
        before = masks[-1] if masks else torch.ones_like(value)
        masks.append(before * rule(i, first, value, gates[-1]).to(value))
        return masks[-1]

    with model.hooks(fwd_hooks=[(GATE, gate), (MASK, mask)]):
        yield masks, gates


@dataclass(frozen=True)
class Cut:
    """The gates cut at another threshold."""

    threshold: float

    def __call__(self, i: int, first: int, mask: Tensor, gate: Tensor) -> Tensor:
        return gate >= self.threshold


class AtRandom:
    """Halts tokens drawn at random, as many in each update as in `updates` [window, pos - 1]."""

    def __init__(self, updates: np.ndarray, n: int, seed: int) -> None:
        self.active = [float((updates > i).mean()) for i in range(n)]
        self.seed = seed

    def __call__(self, i: int, first: int, mask: Tensor, gate: Tensor) -> Tensor:
        # One draw a token for all updates: shares fall, so who has halted stays halted.
        generator = np.random.default_rng([self.seed, first])
        drawn = torch.from_numpy(generator.random(tuple(mask.shape))).to(mask.device)
        return drawn < self.active[i]
