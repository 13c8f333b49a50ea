"""train(config): a whole run, from text to a saved model, resumable at any moment."""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers

from abbie_lens.errors import ConfigError, ExistsError

from . import checkpoints, metrics
from .card import training_card
from .config import FREE_ON_RESUME, TrainConfig
from .data import TrainingData, prepare
from .evaluate import Evaluation, evaluate
from .progress import OnProgress, StderrProgress, TrainProgress
from .schedule import decay_start
from .trainer import Trainer, make_accelerator


def train(config: TrainConfig, on_progress: OnProgress | None = None) -> Path:
    """Train as `config` says; returns the folder of the finished model (`OUT/final`).

    Writes OUT/config.json, metrics.jsonl, checkpoints/ and final/. Progress goes to `on_progress`,
    by default to a bar on stderr. Errors: InputError (data), ConfigError, ExistsError (OUT holds a
    run and `resume` is false), CheckpointError, DivergedError.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    unknown = set(config.trackers) - {str(t) for t in get_available_trackers()}
    if unknown:
        raise ConfigError(f"trackers={sorted(unknown)}: not installed here")
    accelerator = make_accelerator(config)
    try:
        with ExitStack() as stack:
            if on_progress is None and accelerator.is_main_process:
                on_progress = stack.enter_context(StderrProgress())
            return _Run(config, accelerator, on_progress or (lambda now: None)).finish()
    finally:
        # accelerate's state is global; the next run in this process may want another device.
        AcceleratorState._reset_state(accelerator.num_processes == 1)


class _Run:
    """One run: its folder, its trainer, and the step it has reached."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, report: OnProgress) -> None:
        self.config, self.accelerator, self.report = config, accelerator, report
        self.out = Path(config.out)
        self.metrics = self.out / "metrics.jsonl"
        self.heldout: dict[int, float] = {}
        if accelerator.is_main_process:
            self._claim()
        with accelerator.main_process_first():
            self.data: TrainingData = prepare(config, self.out / "data")
        self.trainer = Trainer(config, self.data, accelerator)
        self.step = self._restore()
        if config.trackers:
            accelerator.init_trackers("abbie-lens", config={"run": json.dumps(config.to_dict())})

    def _claim(self) -> None:
        taken = (self.out / "config.json").exists()
        if taken and not self.config.resume:
            raise ExistsError(
                f"out={str(self.out)!r} holds a run; resume it or choose another folder"
            )
        self.out.mkdir(parents=True, exist_ok=True)
        partial = self.out / ".config.json.tmp"
        partial.write_text(json.dumps(self.config.to_dict(), indent=2) + "\n")
        os.replace(partial, self.out / "config.json")

    def _restore(self) -> int:
        found = checkpoints.steps(self.out / "checkpoints")
        step = 0
        if found:
            state = checkpoints.read_state(found[-1])
            step = state["step"]
            self._require_same(state["config"], state["n_steps"], step)
            checkpoints.restore(found[-1], self.trainer.model, self.trainer.optimizer)
        if self.accelerator.is_main_process:
            metrics.truncate(self.metrics, step)
        self.accelerator.wait_for_everyone()
        return step

    def _require_same(self, before: dict[str, Any], n_steps: int, step: int) -> None:
        now = self.config.to_dict()
        for name in sorted(now.keys() - FREE_ON_RESUME):
            if now[name] != before.get(name):
                raise ConfigError(
                    f"{name}={now[name]!r}: the run to resume was started with {before.get(name)!r}"
                )
        starts = [
            decay_start(n, self.config.decay_fraction) for n in (n_steps, self.trainer.n_steps)
        ]
        if n_steps != self.trainer.n_steps and step > min(starts):
            raise ConfigError(
                f"train_tokens={self.config.train_tokens}: at step {step} the learning rate already "
                f"decays in one of the two lengths ({n_steps} and {self.trainer.n_steps} steps)"
            )

    def finish(self) -> Path:
        """Run the remaining steps, evaluate, save."""
        n_steps, config = self.trainer.n_steps, self.config
        since, since_step = time.monotonic(), self.step
        while self.step < n_steps:
            loss, norm = self.trainer.step(self.step)
            self.step += 1
            last = self.step == n_steps
            evaluating = last or self.step % config.eval_every == 0
            saving = last or self.step % config.checkpoint_every == 0
            if saving or evaluating or self.step % config.log_every == 0 or self.step == 1:
                value = self.trainer.global_loss(self.step, loss, norm)
                seconds = max(time.monotonic() - since, 1e-9)
                speed = (self.step - since_step) * self.trainer.tokens_per_step / seconds
                if evaluating:
                    self._evaluate()
                self._log(value, float(norm), speed)
                since, since_step = time.monotonic(), self.step
            if saving:
                self._save()
        final = self._export()
        self.accelerator.end_training()
        return final

    def _log(self, loss: float, norm: float, speed: float) -> None:
        if not self.accelerator.is_main_process:
            return
        tokens = self.step * self.trainer.tokens_per_step
        row: dict[str, Any] = {
            "step": self.step,
            "tokens": tokens,
            "loss": loss,
            "learning_rate": self.trainer.learning_rate(self.step - 1),
            "grad_norm": norm,
            "tokens_per_second": round(speed, 1),
        }
        metrics.append(self.metrics, row)
        if self.config.trackers:
            self.accelerator.log(row, step=self.step)
        left = (self.trainer.n_steps - self.step) * self.trainer.tokens_per_step
        self.report(
            TrainProgress(self.step, self.trainer.n_steps, loss, speed, left / speed, self.heldout)
        )

    def _evaluate(self) -> None:
        if self.accelerator.is_main_process:
            depths = self.config.eval_n_iters
            result = self._heldout(depths, self.config.eval_windows, n_bootstrap=1)
            self.heldout = dict(zip(depths, result.nll, strict=True))
            row = {f"heldout_r{r}": nll for r, nll in self.heldout.items()}
            metrics.append(self.metrics, {"step": self.step, **row})
            if self.config.trackers:
                self.accelerator.log(row, step=self.step)
        self.accelerator.wait_for_everyone()

    def _heldout(
        self, n_iters: tuple[int, ...], max_windows: int | None, n_bootstrap: int = 1000
    ) -> Evaluation:
        # Every depth and batch shape would be compiled anew, for a few forward passes each.
        with torch.compiler.set_stance("force_eager"):
            return evaluate(
                self.trainer.model,
                self.data.heldout,
                n_iters,
                max_windows=max_windows,
                batch_size=self.trainer.micro,
                n_bootstrap=n_bootstrap,
            )

    def _save(self) -> None:
        if self.accelerator.is_main_process:
            state = {"config": self.config.to_dict(), "n_steps": self.trainer.n_steps}
            checkpoints.save(
                self.out / "checkpoints",
                self.step,
                self.trainer.model,
                self.trainer.optimizer,
                state,
            )
        self.accelerator.wait_for_everyone()

    def _export(self) -> Path:
        final = self.out / "final"
        if self.accelerator.is_main_process:
            result = self._heldout(self.config.final_n_iters, None)
            partial = self.out / ".final.tmp"
            shutil.rmtree(partial, ignore_errors=True)
            card = training_card(self.config, self.trainer.model, self.trainer.n_steps, result)
            self.trainer.model.save_pretrained(partial, card=card, dtype=self.config.export_dtype)
            (partial / "evaluation.json").write_text(json.dumps(result.to_dict(), indent=2) + "\n")
            shutil.rmtree(final, ignore_errors=True)
            os.replace(partial, final)
        self.accelerator.wait_for_everyone()
        return final
