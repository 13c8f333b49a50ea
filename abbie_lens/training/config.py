"""TrainConfig: everything a training run depends on, as plain JSON."""

from __future__ import annotations

import dataclasses
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.errors import ConfigError, nearest
from abbie_lens.loops import LoopFamily

from .recipe import Recipe

PRECISIONS = ("auto", "float32", "bfloat16")
DECAYS = ("sqrt", "linear")
# What a resumed run may change without changing its loss curve.
FREE_ON_RESUME = frozenset(
    [
        "out",
        "data",
        "heldout",
        "train_tokens",
        "log_every",
        "eval_every",
        "checkpoint_every",
        "eval_windows",
        "final_n_iters",
        "final_windows",
        "threads",
        "compile",
        "trackers",
        "resume",
        "export_dtype",
        "device",
    ]
)


@dataclass(frozen=True)
class TrainConfig:
    """Settings of one run; `train(config)` is a pure function of them on one kind of machine.

    Errors: ConfigError for an unknown or impossible value.
    """

    model: dict[str, Any]
    """LoopedConfig as JSON; `d_vocab` may be left out (the tokenizer's size is taken)."""
    out: str
    """Folder of the run: config.json, metrics.jsonl, data/, checkpoints/, final/."""
    data: str = ""
    """A token file (.bin), or text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]]."""
    task: dict[str, Any] | None = None
    """A task in place of text, as `tasks.decode` reads it; its answers are what is learnt."""
    heldout: str | None = None
    """Held-out text or token file; None keeps back the last hundredth of `data`."""
    tokenizer: str | None = None
    """tokenizer.json, folder or hub id; None: the one beside a token file, else trained on `data`."""
    vocab_size: int = 4096
    """Size of a tokenizer trained here."""
    max_data_tokens: int | None = None
    """Encode at most about this many tokens of `data` (for streams without an end)."""
    train_tokens: int = 15_000_000
    """Tokens to train on, over as many epochs as that takes; rounded up to whole steps."""
    batch_size: int = 32
    """Windows of n_ctx tokens a step, over all processes."""
    micro_batch_size: int | None = None
    """Windows a process puts through the model at once; None: its whole share."""
    learning_rate: float = 1e-3
    weight_decay: float = 0.1
    warmup_steps: int = 100
    decay_fraction: float = 0.2
    """Share of the steps over which the learning rate falls to 0."""
    decay: str = "sqrt"
    grad_clip: float = 1.0
    init_from: str | None = None
    """A bundled name, folder or hub id of a model whose weights (and tokenizer, if none is named) the run starts
    from; None: random ones."""
    recipe: dict[str, Any] | None = None
    """Fields of Recipe in which this run differs from the family's own training."""
    seed: int = 0
    precision: str = "auto"
    compile: bool = False
    device: str | None = None
    threads: int | None = None
    log_every: int = 10
    eval_every: int = 250
    checkpoint_every: int = 250
    """Steps between two log lines, held-out losses, checkpoints."""
    eval_n_iters: tuple[int, ...] = (1, 2, 4, 8)
    eval_windows: int = 64
    """Held-out windows of each periodic evaluation; of a task, a quarter of the answers a difficulty."""
    final_n_iters: tuple[int, ...] = (1, 2, 4, 8, 16)
    """Depths of the final evaluation."""
    final_windows: int | None = None
    """Evenly spaced held-out windows of the final evaluation, None takes the whole text; of a task, the
    answers a difficulty, 2000 if None."""
    export_dtype: str | None = None
    """dtype of the weights in final/; None keeps the model's."""
    trackers: tuple[str, ...] = field(default=())
    """Trackers of accelerate: "tensorboard", "wandb", …"""
    resume: bool = False
    """Continue from the newest checkpoint in `out`."""

    def __post_init__(self) -> None:
        for name in ("eval_n_iters", "final_n_iters", "trackers"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        _require(
            bool(self.data) != (self.task is not None),
            "data",
            self.data,
            "a text or token file, or else a task"
            if self.task is None
            else "nothing beside a task",
        )
        for name in ("train_tokens", "batch_size", "log_every", "eval_every", "checkpoint_every"):
            _require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("learning_rate", "grad_clip"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "a positive number")
        _require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "at least 0")
        _require(self.eval_windows >= 1, "eval_windows", self.eval_windows, "at least 1")
        _require(0 <= self.decay_fraction <= 1, "decay_fraction", self.decay_fraction, "0 to 1")
        _require(self.precision in PRECISIONS, "precision", self.precision, PRECISIONS)
        _require(self.decay in DECAYS, "decay", self.decay, DECAYS)

    def loop_recipe(self, loop: LoopFamily) -> Recipe:
        """The family's recipe with this run's settings laid over it. Errors: ConfigError."""
        return Recipe.from_dict({**loop.recipe, **(self.recipe or {})})

    def looped_recipe(self) -> Recipe:
        """`loop_recipe` of this run's own model. Errors: ConfigError."""
        return self.loop_recipe(self.looped_config().loop)

    def looped_config(self, d_vocab: int | None = None) -> LoopedConfig:
        """The model's configuration for a tokenizer of `d_vocab` tokens; None: not known yet, however many.

        Errors: ConfigError for a model that cannot be built, or a recipe that its loop cannot follow.
        """
        config = LoopedConfig.from_dict({"d_vocab": d_vocab or sys.maxsize, **self.model})
        recipe = self.loop_recipe(config.loop)
        recipe.check(config)
        _require(
            recipe.stage == "joint" or self.init_from is not None,
            "init_from",
            self.init_from,
            f"a model whose {recipe.stage} is to be trained, with recipe.stage={recipe.stage!r}",
        )
        if d_vocab is not None and config.d_vocab < d_vocab:
            raise ConfigError(f"model.d_vocab={config.d_vocab}: the tokenizer has {d_vocab} tokens")
        name = config.model_name or Path(self.out).name
        # Equal initial weights are part of "a pure function of the settings".
        seed = self.seed if config.seed is None else config.seed
        return config.replace(model_name=name, seed=seed)

    def n_steps(self, n_ctx: int) -> int:
        """Optimizer steps; a window of n_ctx tokens predicts n_ctx - 1."""
        return -(-self.train_tokens // (self.batch_size * (n_ctx - 1)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> TrainConfig:
        """Inverse of `to_dict`; ConfigError for unknown or missing fields."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"training config: unknown field {name!r}.{nearest(name, known)}")
        try:
            return cls(**plain)
        except TypeError as error:
            raise ConfigError(f"training config: {error}") from None

    @classmethod
    def from_file(cls, path: str | Path) -> TrainConfig:
        """Read a JSON file."""
        try:
            plain = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(f"training config {str(path)!r} can't be read: {error}") from error
        if not isinstance(plain, dict):
            raise ConfigError(f"training config {str(path)!r}: expected a JSON object")
        return cls.from_dict(plain)


def _require(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"{name}={value!r}: expected {allowed}.")
