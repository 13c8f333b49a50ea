"""Learned exits: where a gate lets tokens stop, whether hard tokens go on, and what an exit there costs.

F_k is the gate's probability that a token has stopped by iteration k; at the trained depth r the exit is spread as
p_k = F_k - F_{k-1}, the rest at r. A token's expected exit is sum_k k p_k. At a threshold q it exits at the first k with
F_k >= q; controls spend the same: all tokens at one depth (between two whole ones NLL is interpolated), or the same
exits dealt to tokens at random.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.loops.shared import gate
from abbie_lens.losses import next_token_nll
from probes import exits
from probes.reproduction.data import prompts
from probes.reproduction.measures import windows
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require
from probes.reproduction.measures.windows import Triple

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer
    from abbie_lens.state import State
    from probes.reproduction.config import ReproduceConfig


@dataclass(frozen=True)
class ExitAt:
    """Exits at one threshold."""

    threshold: float
    mean_steps: float
    nll: float
    over_full: Triple
    """NLL minus that at the trained depth."""
    over_fixed: Triple
    """NLL minus that of one depth for all, at equal mean steps: below 0 the gate chooses well."""
    over_random: float
    """NLL minus the mean over all ways to deal the same exits at random."""


@dataclass(frozen=True)
class Gates:
    """The trained gate on held-out windows."""

    n_iters: int
    share: np.ndarray
    """[r + 1] mean exit probability at k = 0 ... r."""
    expected: Triple
    """Mean expected exit."""
    spearman: Triple
    """Rank correlation of a token's expected exit with its NLL at the trained depth; NaN where all are alike."""
    at: tuple[ExitAt, ...]


@dataclass(frozen=True)
class MeasureGates(Measure):
    """For families whose loop has a learned gate."""

    name: ClassVar[str] = "gates"

    windows: int = 200
    batch_size: int = 8
    thresholds: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9)

    def __post_init__(self) -> None:
        object.__setattr__(self, "thresholds", tuple(self.thresholds))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(self.windows >= 2, self, "windows", "at least 2")
        allowed = all(0 < q <= 1 for q in self.thresholds)
        require(allowed, self, "thresholds", "numbers above 0, 1 at most")

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """Only where there is a gate."""
        return (self.name,) if model.loop.gated else ()

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Gates:
        """One run to the trained depth, read out at every k."""
        model = subject.model
        tokens = prompts(subject.heldout, self.windows, model.cfg.n_ctx)
        parts = []
        for batch in tokens.split(self.batch_size):
            parts.append(by_depth(model, batch.to(model.device)))
            progress(sum(part[0].shape[1] for part in parts), len(tokens))
        cdf, nll = (np.concatenate(arrays, axis=1) for arrays in zip(*parts, strict=True))
        p = gate.exit_distribution(torch.from_numpy(cdf))
        expected = steps_of(p).numpy()
        p = p.numpy()
        return Gates(
            n_iters=model.cfg.n_iters,
            share=p.mean((1, 2)),
            expected=windows.mean(expected),
            spearman=windows.rank_correlation(expected.round(6), nll[-1]),
            at=tuple(exit_at(cdf, nll, q) for q in self.thresholds),
        )


def steps_of(p: torch.Tensor) -> torch.Tensor:
    """[r + 1, ...] p_k -> [...] sum_k k p_k."""
    k = torch.arange(len(p), dtype=p.dtype, device=p.device)
    return gate.expected(p, k.view(-1, *(1,) * (p.ndim - 1)))


@torch.inference_mode()
def expected_exit(model: HookedLoopedTransformer, tokens: torch.Tensor) -> torch.Tensor:
    """[batch, pos] sum_k k p_k at the trained depth. Errors: TypeError for a loop without a learned gate."""
    state = model.begin(tokens)
    cdf = [_cdf(model, state)]
    for _ in range(state.n_iters):
        state = model.step(state)
        cdf.append(_cdf(model, state))
    return steps_of(gate.exit_distribution(torch.stack(cdf)))


def _cdf(model: HookedLoopedTransformer, state: State) -> torch.Tensor:
    cdf = model.cfg.loop.exit_cdf(model, state)
    if cdf is None:
        raise TypeError(f"{model.cfg.loop.family} has no learned gate")
    return cdf.cpu().double()


@torch.inference_mode()
def by_depth(model: HookedLoopedTransformer, tokens: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    """F_k and NLL at k = 0 ... r of all predicting tokens, each [r + 1, batch, pos - 1]."""
    state, rows = model.begin(tokens), []
    for k in range(state.n_iters + 1):
        state = model.step(state) if k else state
        nll = next_token_nll(model.readout(state), tokens, per_token=True)
        rows.append((_cdf(model, state)[:, :-1].numpy(), nll.double().cpu().numpy()))
    cdf, nll = (np.stack(row) for row in zip(*rows, strict=True))
    return cdf, nll


def exit_at(cdf: np.ndarray, nll: np.ndarray, threshold: float) -> ExitAt:
    """Exits at the first k >= 1 with F_k [k, window, pos] >= threshold, r where there is none."""
    steps, _ = exits.exit_steps(cdf, threshold, "at_least")
    reached = exits.at_exit(nll, steps)
    fixed = windows.between(nll, float(steps.mean()))
    dealt, _ = exits.random_exit(nll.reshape(len(nll), -1), steps.ravel())
    return ExitAt(
        threshold=threshold,
        mean_steps=float(steps.mean()),
        nll=float(reached.mean()),
        over_full=windows.difference(reached, nll[-1]),
        over_fixed=windows.difference(reached, fixed),
        over_random=float(reached.mean()) - dealt,
    )
