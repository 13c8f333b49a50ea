"""What a measure is: settings, the files it writes for a family, and how it measures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import abbie_lens
from abbie_lens.config import LoopedConfig
from abbie_lens.errors import ConfigError
from abbie_lens.files.layout import WEIGHTS
from abbie_lens.files.weights import file_sha256
from abbie_lens.training import TokenFile

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer
    from probes.reproduction.config import ReproduceConfig

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Subject:
    """A trained family and what it is measured on."""

    comparison: ReproduceConfig
    family: str
    final: Path
    """Folder of the trained model."""
    train: Path
    heldout: TokenFile
    scratch: Path
    """Folder for what a measure trains itself."""

    @cached_property
    def model(self) -> HookedLoopedTransformer:
        """The trained model, in float32: half precision is for storing it."""
        return abbie_lens.load(self.final, dtype="float32").eval()

    @cached_property
    def weights(self) -> str:
        """Which weights these are."""
        return file_sha256(self.final / WEIGHTS)[:16]


@dataclass(frozen=True)
class Measure:
    """Base of all measures: a frozen dataclass of settings."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised when the same settings come to mean other values, so that stored files are measured again."""
    reads_weights: ClassVar[bool] = True
    """Whether the trained weights matter; otherwise the model's shape alone."""

    def check(self, comparison: ReproduceConfig) -> None:
        """Raise ConfigError for impossible settings."""

    def parts(self, family: str, model: LoopedConfig) -> tuple[str, ...]:
        """Names of the files this measure writes for a family; none where it says nothing."""
        return (self.name,)

    def of(self, subject: Subject, model: LoopedConfig) -> dict[str, Any]:
        """What the values depend on: a file measured on the same is not measured again."""
        text = subject.heldout
        return {
            "version": self.version,
            "settings": dataclasses.asdict(self),
            "weights": subject.weights if self.reads_weights else None,
            "model": differing(model.replace(model_name="")),
            "heldout": {"n_tokens": len(text.tokens), "tokenizer_hash": text.tokenizer_hash[:16]},
        }

    def measure(self, subject: Subject, part: str, progress: OnProgress) -> Any:
        """The values of one part: a dataclass of plain types and arrays. `progress(done, total)` is called."""
        raise NotImplementedError


def differing(model: LoopedConfig) -> dict[str, Any]:
    """The fields of a model and of its loop that are not the usual ones: a field added later changes nothing."""
    chosen = lambda spec: {  # noqa: E731
        f.name: getattr(spec, f.name)
        for f in dataclasses.fields(spec)
        if getattr(spec, f.name) != f.default
    }
    return {**chosen(model), "loop": {"family": model.loop.family, **chosen(model.loop)}}


def require(ok: bool, measure: Measure, name: str, allowed: object) -> None:
    """Errors: ConfigError naming a measure's setting, its value and what is allowed."""
    if not ok:
        value = getattr(measure, name)
        raise ConfigError(f"measures.{measure.name}.{name}={value!r}: expected {allowed}.")
