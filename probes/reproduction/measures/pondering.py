"""Learned halting: how many updates tokens take, whether hard tokens take more, and pruning at equal compute.

The mask m^{i+1} of every update is a site, so any other rule can be imposed on the trained model: nobody halts,
tokens drawn at random halt in the same numbers, or the gates' own values are cut at another threshold.
Fixed pruning gives all tokens the same depth; between two whole depths its NLL is interpolated in mean updates.
Source: arXiv 2603.01914.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from abbie_lens.config import LoopedConfig
from probes.reproduction.data import prompts
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require
from probes.reproduction.measures.imposed_masks import AtRandom, Cut, Run, Runs
from probes.reproduction.measures.windows import (
    UNDEFINED,
    between,
    difference,
    group_difference,
    rank_correlation,
)

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig


@dataclass(frozen=True)
class Pruned:
    """One rule of who goes on: what it costs and what it loses."""

    rule: str
    """`learned`, `none` (nobody halts), `random`, `fixed`, `gate` (the gates cut at another threshold)."""
    compared_with: str
    """The rule whose mean updates a control shares; itself otherwise."""
    threshold: float
    mean_updates: float
    nll: float
    over_none: tuple[float, float, float]
    """NLL minus that without halting, with its interval over windows."""
    over_compared: tuple[float, float, float]
    """NLL of `compared_with` minus that of this rule: below 0 the learned rule wins. NaN for itself."""


@dataclass(frozen=True)
class Pondering:
    """The trained gates on held-out windows."""

    max_updates: int
    updates: np.ndarray
    """[max_updates + 1] share of tokens that took 0, 1, … updates."""
    gate_quantiles: np.ndarray
    """[update, 5] quantiles 0, .1, .5, .9, 1 of the gates' values."""
    spearman: tuple[float, float, float]
    """Rank correlation of a token's updates with its NLL without halting; NaN where all took the same."""
    gate_spearman: tuple[float, float, float]
    """The same of its mean gate value, which differs where updates do not."""
    halted_minus_active: tuple[float, float, float]
    """Mean NLL of tokens that halted early minus that of those that did not; NaN where either is missing."""
    depth_over_none: tuple[tuple[float, float, float], ...]
    """[max_updates + 1] NLL minus that without halting when every token stops after 0, 1, … updates."""
    rules: tuple[Pruned, ...]


@dataclass(frozen=True)
class MeasurePondering(Measure):
    """For families whose loop has gates and a mask."""

    name: ClassVar[str] = "pondering"

    windows: int = 200
    batch_size: int = 16
    shares: tuple[float, ...] = (0.9, 0.5)
    """Mean updates, as shares of all, at which the gates are cut as well."""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "shares", tuple(self.shares))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(self.windows >= 2, self, "windows", "at least 2")
        require(all(0 < s < 1 for s in self.shares), self, "shares", "numbers between 0 and 1")

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """Only where tokens can halt."""
        return (self.name,) if "gates" in model.loop.parts(model) else ()

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Pondering:
        """Run every rule on the same windows."""
        model = subject.model
        tokens = prompts(subject.heldout, self.windows, model.cfg.n_ctx)
        run = Runs(model, tokens, self.batch_size)
        # the rules below: none, learned, one a share, two controls each, and every fixed depth
        n = model.cfg.n_iters
        total = 2 + len(self.shares) + (1 + len(self.shares)) + n + 1
        done = iter(range(1, total + 1))
        tick = lambda: progress(next(done, total), total)  # noqa: E731

        free = run(lambda i, first, mask, gate: torch.ones_like(mask))
        tick()
        fixed = [_uniform(run, depth, tick) for depth in range(n + 1)]
        learned = run(lambda i, first, mask, gate: mask)
        tick()
        chosen: list[tuple[str, float, Run]] = [
            ("learned", model.cfg.loop.threshold, learned),  # type: ignore[attr-defined]
        ]
        for share in self.shares:
            cut = _threshold(free.gates, share * n)
            chosen.append(("gate", cut, run(Cut(cut))))
            tick()
        rules = [Pruned("none", "none", np.nan, float(n), free.mean, (0.0, 0.0, 0.0), UNDEFINED)]
        for name, cut, made in chosen:
            label = name if name == "learned" else f"gate {made.updates.mean() / n:.2f}"
            over = difference(made.nll, free.nll)
            rules.append(Pruned(label, label, cut, made.updates.mean(), made.mean, over, UNDEFINED))
            drawn = run(AtRandom(made.updates, n, self.seed))
            tick()
            for rule, nll, updates in (
                ("random", drawn.nll, drawn.updates.mean()),
                ("fixed", between(fixed, made.updates.mean()), made.updates.mean()),
            ):
                rules.append(
                    Pruned(rule, label, np.nan, float(updates), float(nll.mean()),
                           difference(nll, free.nll), difference(made.nll, nll))
                )  # fmt: skip
        halted = learned.updates < n
        return Pondering(
            max_updates=n,
            updates=np.bincount(learned.updates.ravel().astype(int), minlength=n + 1)
            / learned.updates.size,
            gate_quantiles=np.quantile(free.gates.reshape(n, -1), [0, 0.1, 0.5, 0.9, 1], axis=1).T,
            spearman=rank_correlation(learned.updates, free.nll),
            gate_spearman=rank_correlation(free.gates.mean(0), free.nll),
            halted_minus_active=group_difference(free.nll, halted),
            depth_over_none=tuple(difference(nll, free.nll) for nll in fixed),
            rules=tuple(rules),
        )


def _uniform(run: Runs, depth: int, tick: Callable[[], None]) -> np.ndarray:
    made = run(lambda i, first, mask, gate: torch.full_like(mask, float(i < depth))).nll
    tick()
    return made


def _threshold(gates: np.ndarray, mean_updates: float) -> float:
    """The cut of gate values [update, window, pos] under which tokens take `mean_updates` on average."""
    # A token takes another update while all its gates so far reach the cut.
    running = np.minimum.accumulate(gates, axis=0)
    values = np.sort(running.ravel())
    return float(values[round((1 - mean_updates / len(gates)) * (len(values) - 1))])
