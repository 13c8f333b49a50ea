"""How far attention reaches in every loop, in tokens: are early loops broad and late ones local?

Of the Body's patterns, averaged over blocks, heads and queries: mean distance from query to key times the tokens of
a chunk, entropy over log of the keys that causality allows, mass on the nearest keys.
Source of the question: arXiv 2602.11698.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from abbie_lens.config import LoopedConfig
from abbie_lens.hooks.points import Site
from abbie_lens.model import HookedLoopedTransformer
from probes.reproduction.data import prompts
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require
from probes.reproduction.measures.nll import interval

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig

QUANTITIES = ("span", "entropy", "local")


@dataclass(frozen=True)
class Attention:
    """By loop, at the trained depth."""

    chunk: tuple[float, ...]
    """[loop] tokens for each input of the Body: below 1 where it reads more inputs than there are tokens."""
    span: np.ndarray
    """[loop] mean distance from query to key, in tokens."""
    entropy: np.ndarray
    """[loop] entropy over log(allowed keys), queries with one key left out."""
    local: np.ndarray
    """[loop] attention on keys at most `near` tokens away."""
    first_minus_last: dict[str, tuple[float, float, float]]
    """By quantity: first loop minus last, with its interval over windows."""


@dataclass(frozen=True)
class MeasureAttention(Measure):
    """The Body's attention at the trained depth, for every family."""

    name: ClassVar[str] = "attention"

    windows: int = 32
    near: int = 8
    """Tokens that count as local."""

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(self.windows >= 2, self, "windows", "at least 2")
        require(self.near >= 1, self, "near", "at least 1")

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """Only where all blocks of the Body run in every loop, so that a loop has one mean."""
        sites = (f"body.{b}.attn.hook_pattern" for b in range(model.n_body_blocks))
        rows = {model.loop.rows(site, model.n_iters) for site in sites}
        return (self.name,) if len(rows) == 1 else ()

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Attention:
        """Window by window: patterns of long windows are large."""
        model = subject.model
        tokens = prompts(subject.heldout, self.windows, model.cfg.n_ctx)
        rows = []
        chunk: tuple[float, ...] = ()
        for number, row in enumerate(tokens, start=1):
            values, chunk = _one_window(model, row[None].to(model.device), self.near)
            rows.append(values)
            progress(number, len(tokens))
        by_window = np.stack(rows)  # [window, quantity, loop]
        change = by_window[:, :, 0] - by_window[:, :, -1]
        generator = np.random.default_rng(0)
        drawn = np.stack(
            [change[generator.integers(len(change), size=len(change))].mean(0) for _ in range(1000)]
        )
        low, high = interval(drawn)
        mean = by_window.mean(0)
        return Attention(
            chunk,
            *mean,
            first_minus_last={
                name: (float(change.mean(0)[i]), float(low[i]), float(high[i]))
                for i, name in enumerate(QUANTITIES)
            },
        )


def _one_window(
    model: HookedLoopedTransformer, tokens: Tensor, near: int
) -> tuple[np.ndarray, tuple[float, ...]]:
    """[quantity, loop] of one window [1, pos], and tokens a chunk by loop."""
    found: dict[int, list[np.ndarray]] = {}
    chunk: dict[int, float] = {}

    def keep(pattern: Tensor, hook: Site) -> None:
        loop, n, inputs = int(hook.iteration or 0), tokens.shape[1], pattern.shape[-1]
        size = n // inputs if inputs <= n else n / inputs
        chunk[loop] = size
        found.setdefault(loop, []).append(summary(pattern[0].double().cpu().numpy(), size, near))

    names = [(f"body.{b}.attn.hook_pattern", keep) for b in range(len(model.body))]
    with model.hooks(fwd_hooks=names), torch.no_grad():
        model(tokens, return_type=None)
    loops = sorted(found)
    values = np.stack([np.mean(found[loop], axis=0) for loop in loops], axis=1)
    return values, tuple(chunk[loop] for loop in loops)


def summary(pattern: np.ndarray, chunk: float, near: int) -> np.ndarray:
    """Span in tokens, causally normalised entropy and local mass of a pattern [head, query, key]."""
    n = pattern.shape[-1]
    distance = chunk * (np.arange(n)[:, None] - np.arange(n)[None])
    span = (pattern * distance).sum(-1).mean()
    local = (pattern * (np.abs(distance) <= near)).sum(-1).mean()
    if n < 2:
        return np.array([span, np.nan, local])
    logs = np.log(pattern, where=pattern > 0, out=np.zeros_like(pattern))
    entropy = -(pattern * logs).sum(-1)[:, 1:] / np.log(np.arange(2, n + 1))
    return np.array([span, entropy.mean(), local])
