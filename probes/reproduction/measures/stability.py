"""Is the loop stable in training? Gradient and state norms, before and after a short training at several K.

The diagnostic of the Fully Looped Transformer: the same stack looped K times, gradient norm of every block, norm of
the stack's output (before the norm that makes it the next state) in every loop.
Source: arXiv 2605.18797.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

import abbie_lens
from abbie_lens.config import LoopedConfig
from abbie_lens.errors import DivergedError
from abbie_lens.hooks.points import Site
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.training import TrainConfig, TrainProgress, train
from abbie_lens.training.metrics import read as read_log
from abbie_lens.training.objective import Objective
from probes.reproduction.data import prompts
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig


@dataclass(frozen=True)
class Norms:
    """Norms of one set of weights on one batch of held-out text."""

    gradient: np.ndarray
    """[block] gradient norm of every Body block's weights."""
    state: np.ndarray
    """[loop] mean norm of the Body's output."""
    loss: float


@dataclass(frozen=True)
class Stability:
    """One family at one K."""

    n_iters: int
    initial: Norms
    trained: Norms | None
    """After `steps` steps; None where training diverged."""
    diverged_at: int | None
    """Step at which loss or gradient was not finite any more."""
    loss: np.ndarray
    gradient: np.ndarray
    """[step] training loss and gradient norm before clipping."""


@dataclass(frozen=True)
class MeasureStability(Measure):
    """Train the family's shape for a few steps at every K."""

    name: ClassVar[str] = "stability"
    reads_weights: ClassVar[bool] = False

    families: tuple[str, ...] = ("lt", "flt")
    n_iters: tuple[int, ...] = (3, 6, 9, 12)
    """K."""
    steps: int = 200
    batch_size: int = 4
    warmup_steps: int = 20
    prompts: int = 8
    """Held-out windows that the norms are taken on."""

    def __post_init__(self) -> None:
        for name in ("families", "n_iters"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for settings out of range."""
        require(all(k >= 1 for k in self.n_iters), self, "n_iters", "integers >= 1")
        for name in ("steps", "batch_size", "prompts"):
            require(getattr(self, name) >= 1, self, name, "at least 1")

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """One file a K, for the families named."""
        chosen = model.loop.family in self.families
        return tuple(f"{self.name}-{k}" for k in self.n_iters) if chosen else ()

    def of(self, subject: Subject, model: LoopedConfig) -> dict[str, Any]:
        """The recipe matters too, as it trains."""
        training = {
            k: v for k, v in self._training(subject, 1).to_dict().items() if k not in _PLACES
        }
        return {**super().of(subject, model), "training": training}

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Stability:
        """Train from the family's own initial weights at K and measure on either side."""
        k = int(part.removeprefix(f"{self.name}-"))
        config = self._training(subject, k)
        shape = config.looped_config(len(subject.model.tokenizer))
        tokens = prompts(subject.heldout, self.prompts, shape.n_ctx)
        recipe = config.loop_recipe(shape.loop)
        norms = lambda model: measure_norms(Objective(model, recipe), tokens, k)  # noqa: E731
        initial = norms(HookedLoopedTransformer(shape, tokenizer=subject.model.tokenizer))

        def forward(now: TrainProgress) -> None:
            progress(now.step, now.n_steps)

        trained, diverged_at = None, None
        torch.compiler.reset()
        try:
            trained = norms(abbie_lens.load(train(config, on_progress=forward), dtype="float32"))
        except DivergedError:
            diverged_at = -1  # the step is read from the log below
        rows = [row for row in read_log(Path(config.out) / "metrics.jsonl") if "loss" in row]
        if diverged_at is not None:
            diverged_at = (rows[-1]["step"] if rows else 0) + 1
        loss, gradient = (np.array([row[name] for row in rows]) for name in ("loss", "grad_norm"))
        return Stability(k, initial, trained, diverged_at, loss, gradient)

    def _training(self, subject: Subject, k: int) -> TrainConfig:
        comparison, family = subject.comparison, subject.family
        out = subject.scratch / f"{self.name}-{family}-{k}"
        config = comparison.training_of(family, out, subject.train, subject.heldout.path)
        n_ctx = config.model["n_ctx"]
        return dataclasses.replace(
            config,
            model={**config.model, "n_iters": k},
            train_tokens=self.steps * self.batch_size * (n_ctx - 1),
            batch_size=self.batch_size, micro_batch_size=None, warmup_steps=self.warmup_steps,
            log_every=1, eval_every=self.steps, checkpoint_every=min(50, self.steps),
            eval_n_iters=(k,), final_n_iters=(k,), eval_windows=1, final_windows=4, export_dtype=None,
        )  # fmt: skip


_PLACES = ("data", "heldout", "tokenizer", "out", "device", "threads", "compile")


def measure_norms(objective: Objective, tokens: torch.Tensor, k: int) -> Norms:
    """One forward and backward pass of [batch, pos] tokens at depth k, in the weights' own precision."""
    model = objective.model
    states: list[float] = []

    def keep(out: torch.Tensor, hook: Site) -> None:
        states.append(float(out.detach().norm(dim=-1).mean()))

    model.zero_grad()
    last = len(model.body) - 1
    with model.hooks(fwd_hooks=[(f"body.{last}.hook_resid_post", keep)]):
        loss, nll = objective(tokens.to(model.device), None, k, 1.0)
    loss.backward()
    gradient = [
        float(torch.stack([p.grad.norm() for p in block.parameters() if p.grad is not None]).norm())
        for block in model.body
    ]
    model.zero_grad()
    return Norms(np.array(gradient), np.array(states), float(nll))
