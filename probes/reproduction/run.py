"""reproduce(config, out): train every family, measure it, store the numbers, write the document.

OUT/data, OUT/FAMILY (the training runs), OUT/metrics, OUT/reproduction.md. What is finished is not done again:
a training whose final/ is there, a metrics file measured on the same weights with the same settings. So it may be
stopped at any moment, and a changed setting measures again what depends on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from abbie_lens.config import LoopedConfig
from abbie_lens.files.layout import is_model_folder, read_config
from abbie_lens.training import TrainConfig, TrainProgress, load_tokenizer, train
from probes.reproduction.config import ReproduceConfig
from probes.reproduction.data import Text, prepare
from probes.reproduction.measures import Measure, Subject
from probes.reproduction.store import CONFIG, Metrics, plain, write_json


@dataclass(frozen=True)
class Stage:
    """Where a comparison stands."""

    family: str
    what: str
    """"training", or the metrics file being measured."""
    done: int
    total: int
    """Steps or windows of this stage."""
    number: int
    n_stages: int
    """This is stage `number` of `n_stages`, from 1; a family not trained yet counts its measures too."""
    loss: float = float("nan")


OnStage = Callable[[Stage], object]


def reproduce(
    config: ReproduceConfig,
    out: str | Path,
    on_stage: OnStage = lambda stage: None,
    *,
    train_missing: bool = True,
) -> Metrics:
    """Train and measure whatever is missing; the stored metrics.

    `train_missing=False` measures the families that are trained and leaves the others. Errors: ConfigError,
    InputError before anything is trained; those of `train` while training.
    """
    out = Path(out)
    text = prepare(config, out / "data")
    n_tokens = len(load_tokenizer(text.train.with_name("tokenizer.json")))
    config = config.replace(vocab_size=n_tokens)
    metrics = Metrics(out / "metrics")
    write_json(metrics.folder / CONFIG, portable(config))
    work = _Work(config, out, text, metrics, on_stage)
    for family in config.families:
        if train_missing:
            work.train(family)
        if is_model_folder(out / family / "final"):
            work.measure(family)
    return metrics


def portable(config: ReproduceConfig) -> dict:
    """The settings without folders of this machine."""
    content = plain(config.to_dict())
    for name in ("data", "heldout", "tokenizer"):
        source = content[name]
        if source is not None and not source.startswith(("hf:", "zoo:")):
            content[name] = Path(source).name
    content["measures"] = {
        measure.name: plain(dataclasses.asdict(measure)) for measure in config.chosen_measures()
    }
    return content


class _Work:
    """The stages, counted."""

    def __init__(
        self, config: ReproduceConfig, out: Path, text: Text, metrics: Metrics, report: OnStage
    ) -> None:
        self.config, self.out, self.text = config, out, text
        self.metrics, self.report = metrics, report
        self.measures: list[Measure] = config.chosen_measures()
        self.number = 0
        self.n_stages = sum(1 + len(self.files(family)) for family in config.families)

    def shape(self, family: str) -> LoopedConfig:
        """The model's configuration as it will be trained."""
        return self.training(family).looped_config(self.config.vocab_size)

    def training(self, family: str) -> TrainConfig:
        """How it is trained."""
        return self.config.training_of(
            family, self.out / family, self.text.train, self.text.heldout.path
        )

    def files(self, family: str) -> list[tuple[Measure, str]]:
        """Measures and the files they write for a family."""
        shape = self.shape(family)
        return [(m, part) for m in self.measures for part in m.parts(family, shape)]

    def train(self, family: str) -> None:
        """Train one family, unless it is trained."""
        with self.stage(family, "training") as tell:
            if is_model_folder(self.out / family / "final"):
                return
            # Compiled blocks of the families before count against a limit that ends in silence.
            torch.compiler.reset()

            def forward(now: TrainProgress) -> None:
                tell(now.step, now.n_steps, now.loss)

            train(self.training(family), on_progress=forward)

    def measure(self, family: str) -> None:
        """Every measure of one family that is not stored yet."""
        final = self.out / family / "final"
        shape = read_config(final)[0]
        subject = Subject(
            self.config, family, final, self.text.train, self.text.heldout, self.out / "scratch"
        )
        for measure, part in self.files(family):
            with self.stage(family, part) as tell:
                of = measure.of(subject, shape)
                if not self.metrics.has(family, part, of):
                    self.metrics.write(family, part, of, measure.measure(subject, part, tell))

    @contextmanager
    def stage(self, family: str, what: str) -> Iterator[Callable[..., None]]:
        """Reports the stage's beginning and end, and hands out a callback for what lies between."""
        self.number += 1
        stage = Stage(family, what, 0, 1, self.number, self.n_stages)

        def tell(done: int, total: int, loss: float = float("nan")) -> None:
            self.report(dataclasses.replace(stage, done=done, total=total, loss=loss))

        tell(0, 1)
        yield tell
        tell(1, 1)
