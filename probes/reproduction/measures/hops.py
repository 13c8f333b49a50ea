"""Do more iterations follow more hops? A small model of the family's own, trained on k-hop pointer chasing.

The depth that a question needs is known there. Trained on few hops, asked beyond: accuracy by r and by hops, and
where the loop has a learned gate, the iteration at which it lets answers of so many hops go.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

import abbie_lens
from abbie_lens import loops, tasks
from abbie_lens.config import LoopedConfig
from abbie_lens.model import HookedLoopedTransformer
from abbie_lens.tasks.evaluate import TaskEvaluation, accuracy
from abbie_lens.training import TrainConfig, TrainProgress, train
from probes.reproduction.measures.base import Measure, OnProgress, Subject, require
from probes.reproduction.measures.gates import expected_exit
from probes.task_exits import by_difficulty

if TYPE_CHECKING:
    from probes.reproduction.config import ReproduceConfig


# Some families scale embeddings up to unit entries; those that start at 1 / sqrt(d_model) would then drown the blocks.
_UNSCALED: Mapping[str, Any] = {"embed_scale": 1.0}
# Nine tokens in ten ask nothing: all gates are pushed, or only theirs were; and late, once hops are found, or they
# close before a second pass is of use.
_ADAPONDER: Mapping[str, Any] = {
    "loop": {
        "family": "adaponder", "max_iters": 2, "beyond": "repeat_last",
        "gate_share": 1.0, "gate_ramp": (0.85, 0.98),
    },
}  # fmt: skip


@dataclass(frozen=True)
class Hops:
    """A model trained on the task, asked about more hops than it was trained on."""

    evaluation: TaskEvaluation
    expected_exit: np.ndarray | None
    """[difficulty, 3] mean expected exit of the gate at the answers, with its interval; None for a loop without one."""
    spearman: np.ndarray | None
    """[3] rank correlation of an answer's expected exit with its hops; NaN where all are alike."""


@dataclass(frozen=True)
class MeasureHops(Measure):
    """Train the loop on questions of few hops, with a shape and a recipe of the task's own."""

    name: ClassVar[str] = "khop"
    reads_weights: ClassVar[bool] = False

    families: Mapping[str, Mapping[str, Any]] = field(
        default_factory=lambda: {
            "abbie-d": {}, "0pt": _UNSCALED, "flt": {}, "adaponder": {**_UNSCALED, **_ADAPONDER},
        }
    )  # fmt: skip
    """Which families, and where each one's LoopedConfig differs from `model`; `recipe`: where its Recipe does."""
    task: Mapping[str, Any] = field(
        default_factory=lambda: {
            "n_nodes": 8, "n_ctx": 96, "train_difficulty": (1, 2), "test_difficulty": (1, 4),
        }
    )  # fmt: skip
    """Settings of the task."""
    model: Mapping[str, Any] = field(
        default_factory=lambda: {
            "d_model": 64, "n_heads": 4, "d_mlp": 64, "n_iters": 2,
            "n_head_blocks": 1, "n_body_blocks": 1, "n_tail_blocks": 0,
            "use_bias": True, "initializer_range": 0.125,
        }
    )  # fmt: skip
    """Fields of LoopedConfig over the comparison's and the family's. Weights start at 1 / sqrt(d_model): from the
    0.02 of wider models attention stays uniform, and no hop is found. The MLP has little to remember. A hop takes
    two layers, to see the token before and to look it up: the first iteration has no more, so it has one hop."""
    training: Mapping[str, Any] = field(
        default_factory=lambda: {
            "train_tokens": 8_000_000, "batch_size": 32, "learning_rate": 2e-3, "warmup_steps": 50,
            "decay_fraction": 0.2, "precision": "float32", "eval_every": 500, "checkpoint_every": 250,
            "recipe": {"loss": "step"}, "export_dtype": "float16", "compile": True,
        }
    )  # fmt: skip
    """Fields of TrainConfig; nothing is taken over from the comparison's. Every read-out is trained: the first
    ones have the short path on which one hop is found, and then all depths can be compared."""
    n_iters: tuple[int, ...] = (1, 2, 3, 4, 6, 8)
    n_instances: int = 1000
    """Questions of every number of hops."""
    rows: int = 500
    """Rows whose exits are read."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "n_iters", tuple(self.n_iters))

    def check(self, comparison: ReproduceConfig) -> None:
        """Errors: ConfigError for a task, model or recipe that is impossible."""
        for name in ("n_instances", "rows"):
            require(getattr(self, name) >= 1, self, name, "at least 1")
        for family in self.families.keys() & comparison.families.keys():
            config = self._training(comparison, family, "out")
            task = tasks.decode(dict(config.task or {}))
            shape = config.looped_config(task.d_vocab)
            config.loop_recipe(shape.loop)

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """One file, for the families named."""
        return (self.name,) if family in self.families else ()

    def of(self, subject: Subject, model: LoopedConfig) -> dict[str, Any]:
        """The model that is trained here, not the one trained on text."""
        config = self._training(subject.comparison, subject.family, "out").to_dict()
        return {"version": self.version, "settings": dataclasses.asdict(self), "training": config}

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Hops:
        """Train (or go on training) OUT/scratch/khop-FAMILY and ask."""
        out = subject.scratch / f"{self.name}-{subject.family}"
        config = self._training(subject.comparison, subject.family, str(out))

        def forward(now: TrainProgress) -> None:
            progress(now.step, now.n_steps)

        torch.compiler.reset()
        model = abbie_lens.load(train(config, on_progress=forward), dtype="float32")
        task = tasks.decode(dict(config.task or {}))
        evaluation = accuracy(
            model.eval(), task, self.n_iters, n_instances=self.n_instances, progress=progress
        )
        if not model.cfg.loop.gated:
            return Hops(evaluation, None, None)
        return Hops(evaluation, *_expected_exit(model, task, self.rows, evaluation.difficulty))

    def _training(self, comparison: ReproduceConfig, family: str, out: str) -> TrainConfig:
        task = {"task": "k-hop", **self.task}
        named = {"model_name": f"{family}-khop", "n_ctx": task["n_ctx"]}
        model = comparison.model_of(family, **self.model)
        # The comparison's widths of a family are of its own shape; how a family divides blocks is for every one.
        widths = {name: value for name, value in self.model.items() if not name.endswith("_blocks")}
        own = dict(self.families[family])
        recipe = {**self.training.get("recipe", {}), **own.pop("recipe", {})}
        model |= {**widths, **named, **own}
        most = loops.decode(model["loop"]).max_depth
        depths = [r for r in self.n_iters if most is None or r <= most]
        return TrainConfig.from_dict(
            {
                "final_n_iters": depths,
                "eval_n_iters": depths,
                "final_windows": self.n_instances,
                **self.training,
                "recipe": recipe,
                "model": model,
                "task": task,
                "out": out,
                "resume": True,
            }
        )


@torch.inference_mode()
def _expected_exit(
    model: HookedLoopedTransformer, task: tasks.Task, rows: int, difficulty: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Expected exits by hops, and their rank correlation, over the answers of some rows of the test split."""
    batch = task.sample(0, rows, split="test")
    expected = expected_exit(model, torch.from_numpy(batch.tokens).to(model.device))
    # The token before an answer predicts it.
    needed = batch.difficulty[:, 1:]
    row, position = np.nonzero(needed)
    steps = expected[:, :-1].numpy()[row, position].round(6)
    return by_difficulty(row, needed[row, position], steps, np.array(difficulty), seed=0)
