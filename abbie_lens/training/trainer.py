"""The optimisation itself: one model, one optimizer, one step at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import cast

import numpy as np
import torch
from accelerate import Accelerator

from abbie_lens.errors import ConfigError, DivergedError
from abbie_lens.model import HookedLoopedTransformer

from .config import TrainConfig
from .data import TrainingData
from .objective import Objective
from .schedule import wsd
from .start import start_from


class Trainer:
    """Holds what a step changes; a step is a pure function of that and of its number."""

    def __init__(self, config: TrainConfig, data: TrainingData, accelerator: Accelerator) -> None:
        self.config, self.accelerator = config, accelerator
        cfg = config.looped_config(len(data.tokenizer))
        self.model = HookedLoopedTransformer(cfg, tokenizer=data.tokenizer)
        if config.init_from is not None:
            start_from(self.model, config.init_from)
        self.n_steps = config.n_steps(cfg.n_ctx)
        self.batches = data.batches(cfg.n_ctx, config.batch_size, config.seed)
        self.rows = _share(config.batch_size, accelerator)
        self.micro = config.micro_batch_size or len(self.rows)
        if len(self.rows) % self.micro:
            raise ConfigError(
                f"micro_batch_size={self.micro}: expected a divisor of a process's "
                f"{len(self.rows)} windows"
            )
        if config.compile:
            for block in (*self.model.head, *self.model.body, *self.model.tail):
                block.compile()
        self.bf16 = _use_bf16(config.precision, accelerator.device)
        self.recipe = config.loop_recipe(cfg.loop)
        if self.recipe.stage != "joint":
            _freeze_all_but(self.model, self.recipe.trained_parts(cfg.loop))
        self.objective = accelerator.prepare_model(Objective(self.model, self.recipe))
        self.optimizer = _adamw(self.model, config)

    @property
    def tokens_per_step(self) -> int:
        """Tokens of one step that have a token before them, over all processes."""
        return self.config.batch_size * (self.model.cfg.n_ctx - 1)

    def learning_rate(self, step: int) -> float:
        """Learning rate of `step`."""
        c = self.config
        share = wsd(step, self.n_steps, c.warmup_steps, c.decay_fraction, c.decay)
        return c.learning_rate * share

    def step(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Take step number `step` (from 0); the local NLL in nats and the gradient norm before clipping."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        # A drawn state is the same in a resumed run, and another in every process. The CPU's
        # generator reads the low 32 bits of a seed, over which this multiple spreads processes.
        process = self.accelerator.process_index * 2_654_435_761
        torch.manual_seed(self.config.seed * 1_000_003 + step + process)
        tokens, counted = self.batches(step)
        parts = self._parts(tokens)
        answers: Sequence[torch.Tensor | None] = [None] * len(parts)
        weights = [1 / len(parts)] * len(parts)
        if counted is not None:
            # Every answer of the global batch weighs the same, wherever it is computed.
            answers = self._parts(counted)
            each = counted[:, 1:].sum() / self.accelerator.num_processes
            weights = [float(part[:, 1:].sum() / each) for part in answers if part is not None]
        progress = step / self.n_steps
        drawn = self.recipe.row_depths(
            self.model.cfg.n_iters, self.config.seed, step, progress, len(tokens)
        )
        mine = drawn[self.rows.start : self.rows.stop]
        depths = [mine[i : i + self.micro] for i in range(0, len(mine), self.micro)]
        device = self.accelerator.device
        nll = torch.zeros((), device=device)
        each_part = zip(parts, answers, weights, depths, strict=True)
        for number, (part, asked, weight, n_iters) in enumerate(each_part):
            with self._sync(last=number == len(parts) - 1):
                with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
                    draw = (self.config.seed, step)
                    loss, part_nll = self.objective(part, asked, n_iters, progress, draw)
                self.accelerator.backward(loss * weight)
            nll += part_nll * weight
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.config.grad_clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return nll, norm

    def _parts(self, batch: np.ndarray) -> Sequence[torch.Tensor]:
        """This process's rows of a global array [batch, pos], in micro-batches."""
        mine = torch.from_numpy(batch[self.rows.start : self.rows.stop])
        return mine.to(self.accelerator.device).split(self.micro)

    def global_loss(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> float:
        """Mean loss over all processes; DivergedError if it or the gradient is not finite."""
        value = cast(torch.Tensor, self.accelerator.reduce(loss, reduction="mean")).item()
        if not (torch.isfinite(norm) and math.isfinite(value)):
            raise DivergedError(
                f"training diverged at step {step}: loss {value}, gradient norm {float(norm)}; "
                "lower learning_rate or resume from the last checkpoint with another seed"
            )
        return value

    def _sync(self, last: bool) -> AbstractContextManager:
        return nullcontext() if last else self.accelerator.no_sync(self.objective)


def make_accelerator(config: TrainConfig) -> Accelerator:
    """One process or what `torchrun`/`accelerate launch` started; CPU where there is nothing better."""
    cpu = config.device == "cpu" or not torch.accelerator.is_available()
    accelerator = Accelerator(
        cpu=cpu, log_with=list(config.trackers) or None, project_dir=config.out
    )
    if config.device not in (None, accelerator.device.type):
        raise ConfigError(
            f"device={config.device!r}: expected 'cpu' or {accelerator.device.type!r} on this machine"
        )
    return accelerator


def _share(batch_size: int, accelerator: Accelerator) -> range:
    n = accelerator.num_processes
    if batch_size % n:
        raise ConfigError(f"batch_size={batch_size}: expected a multiple of the {n} processes")
    each = batch_size // n
    return range(each * accelerator.process_index, each * (accelerator.process_index + 1))


def _use_bf16(precision: str, device: torch.device) -> bool:
    if precision == "auto":
        # On CPUs bfloat16 products are often several times slower than float32's.
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
    return precision == "bfloat16"


def _freeze_all_but(model: HookedLoopedTransformer, trained: tuple[str, ...]) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(trained))


def _adamw(model: torch.nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)
