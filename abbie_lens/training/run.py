"""train(config): a whole run, from text to a saved model, resumable at any moment."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.tracking import get_available_trackers

from abbie_lens.errors import ConfigError, ExistsError
from abbie_lens.files.layout import ACCURACY, EVALUATION
from abbie_lens.files.plain_json import write_object

from . import checkpoints, metrics
from .card import training_card, training_metrics
from .config import TrainConfig
from .data import TrainingData, prepare
from .evaluate import Evaluation
from .progress import OnProgress, StderrProgress, TrainProgress
from .resume import require_same
from .start import require_fit
from .trainer import Trainer, make_accelerator


def train(config: TrainConfig, on_progress: OnProgress | None = None) -> Path:
    """Train as `config` says; returns the folder of the finished model (`OUT/final`).

    Writes OUT/config.json, metrics.jsonl, checkpoints/ and final/. Progress goes to `on_progress`,
    by default to a bar on stderr. Errors: InputError (data), ConfigError, ExistsError (OUT holds a
    run and `resume` is false), CheckpointError, DivergedError.
    """
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    cfg = config.looped_config()  # a model that cannot be built is told before the text is read
    if config.init_from is not None:
        unknown = frozenset() if "d_vocab" in config.model else frozenset(["d_vocab"])
        require_fit(cfg, config.init_from, but=unknown)
    available = {str(tracker) for tracker in get_available_trackers()}
    if missing := set(config.trackers) - available:
        raise ConfigError(f"trackers={sorted(missing)}: installed here are {sorted(available)}")
    accelerator = make_accelerator(config)
    try:
        with ExitStack() as stack:
            if on_progress is None and accelerator.is_main_process:
                on_progress = stack.enter_context(StderrProgress())
            run = _Run(config, accelerator, on_progress or (lambda now: None))
            run.train()
            return run.export()
    finally:
        # accelerate's state is global; the next run in this process may want another device.
        AcceleratorState._reset_state(reset_partial_state=True)


class _Run:
    """One run: its folder, its trainer, and the step it has reached."""

    def __init__(self, config: TrainConfig, accelerator: Accelerator, report: OnProgress) -> None:
        self.config, self.accelerator, self.report = config, accelerator, report
        self.main = accelerator.is_main_process
        self.out = Path(config.out)
        self.metrics = self.out / "metrics.jsonl"
        if self.main:
            self._claim()
        with accelerator.main_process_first():
            self.data: TrainingData = prepare(config, self.out / "data")
        self.trainer = Trainer(config, self.data, accelerator)
        self.now = TrainProgress(0, self.trainer.n_steps)
        self.step = self._restore()
        if self.main:
            write_object(self.out / "config.json", config.to_dict())
        if config.trackers:
            accelerator.init_trackers("abbie-lens", config={"run": json.dumps(config.to_dict())})

    def _claim(self) -> None:
        self.out.mkdir(parents=True, exist_ok=True)
        if self.config.resume:
            return
        if (self.out / "config.json").exists():
            raise ExistsError(
                f"out={str(self.out)!r} holds a run: resume it or name another folder"
            )
        # Left by a run that failed before its first step, perhaps of other text.
        shutil.rmtree(self.out / "data", ignore_errors=True)

    def _restore(self) -> int:
        found = checkpoints.steps(self.out / "checkpoints")
        step = 0
        if found:
            state = checkpoints.read_state(found[-1])
            require_same(self.config, self._state(), state)
            checkpoints.restore(found[-1], self.trainer.model, self.trainer.optimizer)
            step = state["step"]
        if self.main:
            metrics.truncate(self.metrics, step)
        self.accelerator.wait_for_everyone()
        return step

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.to_dict(),
            "n_steps": self.trainer.n_steps,
            "corpus": self.data.identity(),
        }

    def train(self) -> None:
        """Take the remaining steps."""
        config, trainer = self.config, self.trainer
        since, since_step = time.monotonic(), self.step
        while self.step < trainer.n_steps:
            loss, norm = trainer.step(self.step)
            self.step += 1
            last = self.step == trainer.n_steps
            evaluating = last or self.step % config.eval_every == 0
            saving = last or self.step % config.checkpoint_every == 0
            if not (evaluating or saving or self.step % config.log_every == 0):
                continue
            value = trainer.global_loss(self.step, loss, norm)
            seconds = max(time.monotonic() - since, 1e-9)
            if self.main:
                self._log(value, float(norm), (self.step - since_step) / seconds)
                if evaluating:
                    self._evaluate()
                if saving:
                    folder = self.out / "checkpoints"
                    checkpoints.save(
                        folder, self.step, trainer.model, trainer.optimizer, self._state()
                    )
            self.accelerator.wait_for_everyone()
            since, since_step = time.monotonic(), self.step

    def _log(self, loss: float, norm: float, steps_per_second: float) -> None:
        trainer = self.trainer
        row = {
            "tokens": self.step * trainer.tokens_per_step,
            "loss": loss,
            "learning_rate": trainer.learning_rate(self.step - 1),
            "grad_norm": norm,
            "tokens_per_second": round(steps_per_second * trainer.tokens_per_step, 1),
        }
        self._write(row)
        self.now = dataclasses.replace(
            self.now,
            step=self.step,
            loss=loss,
            tokens_per_second=row["tokens_per_second"],
            eta_seconds=(trainer.n_steps - self.step) / steps_per_second,
        )
        self.report(self.now)

    def _evaluate(self) -> None:
        with self._eager():
            heldout = self.data.judge(self.trainer.model, self.config, 4 * self.trainer.micro)
        # JSON has no NaN: a depth that the loop refuses has no row.
        finite = {f"heldout_r{r}": value for r, value in heldout.items() if math.isfinite(value)}
        self._write(finite)
        self.now = dataclasses.replace(self.now, heldout=heldout, judged_by=self.data.judged_by)
        self.report(self.now)

    def _write(self, row: dict[str, Any]) -> None:
        metrics.append(self.metrics, {"step": self.step, **row})
        if self.config.trackers:
            self.accelerator.log(row, step=self.step)

    def _eager(self) -> AbstractContextManager:
        # Every depth and batch shape would be compiled anew, for a few forward passes each.
        return torch.compiler.set_stance("force_eager")

    def export(self) -> Path:
        """Evaluate on held-out text and save the model with its card; once."""
        final = self.out / "final"
        if self.main and not final.is_dir():
            model = self.trainer.model
            with self._eager():  # four times the windows: no activations are kept
                result = self.data.evaluate(
                    model, self.config, 4 * self.trainer.micro, self._report_evaluation
                )
            settings = training_metrics(self.config, model, self.trainer.n_steps)
            partial = self.out / ".final"
            model.save_pretrained(
                partial,
                dtype=self.config.export_dtype,
                card=training_card(model, settings, result),
                metrics=settings,
                overwrite=True,
            )
            name = EVALUATION if isinstance(result, Evaluation) else ACCURACY
            write_object(partial / name, result.to_dict())
            os.replace(partial, final)
        self.accelerator.wait_for_everyone()
        self.accelerator.end_training()
        return final

    def _report_evaluation(self, done: int, total: int) -> None:
        self.report(dataclasses.replace(self.now, stage="evaluation", step=done, n_steps=total))
