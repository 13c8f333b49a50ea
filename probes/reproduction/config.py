"""ReproduceConfig: which families are trained on what, how they are measured, as plain JSON.

All families share one model shape, one recipe and one text; a family says only where it differs. From that
`training(family, …)` makes the TrainConfig that trains it.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abbie_lens import loops
from abbie_lens.config import LoopedConfig
from abbie_lens.errors import ConfigError, InputError, nearest
from abbie_lens.training import TrainConfig

if TYPE_CHECKING:
    from probes.reproduction.measures import Measure

BUNDLED = ("novels", "wider", "quick", "350m")
_OWN = ("model", "data", "heldout", "tokenizer", "out", "resume", "max_data_tokens", "vocab_size")


@dataclass(frozen=True)
class Family:
    """Where one family differs from what all share."""

    loop: Mapping[str, Any] = field(default_factory=dict)
    """`family` and settings of the loop; the entry's own name is the family if it is left out."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Fields of LoopedConfig, over those shared and those of the family's preset."""
    training: Mapping[str, Any] = field(default_factory=dict)
    """Fields of TrainConfig."""


@dataclass(frozen=True)
class ReproduceConfig:
    """Everything a comparison depends on. Errors: ConfigError before anything is trained."""

    name: str
    """Names the runs' folder and, after the family, every model."""
    model: Mapping[str, Any]
    """Fields of LoopedConfig that all families share."""
    training: Mapping[str, Any]
    """Fields of TrainConfig that all families share."""
    families: Mapping[str, Family]
    data: str
    """Text (file, glob, hf:ID, zoo:sample) or a token file; relative ones also in the user's data folder."""
    heldout: str | None = None
    """The same, held out; None keeps back the last `heldout_share` of the documents."""
    heldout_share: float = 0.25
    tokenizer: str | None = None
    """For text: zoo:MODEL, a file, folder or hub id; None trains one of `vocab_size`."""
    vocab_size: int = 4096
    max_data_tokens: int | None = None
    """Encode at most about this many tokens of `data`."""
    measures: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    """Settings by measure where they are not the usual ones; null leaves a measure out."""

    def __post_init__(self) -> None:
        set_ = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        set_("families", {name: _family(name, spec) for name, spec in self.families.items()})
        _require(bool(self.families), "families", dict(self.families), "at least one")
        _require(0 < self.heldout_share < 1, "heldout_share", self.heldout_share, "between 0 and 1")
        _require(
            bool(self.heldout) or not self.data.startswith("hf:"),
            "heldout",
            self.heldout,
            "a text of its own: a stream has no last documents to keep back",
        )
        for spec in (self, *self.families.values()):
            for name in spec.training:
                _require(name not in _OWN, f"training.{name}", spec.training[name], "not set here")
        for name in self.families:
            self.check(name)
        for measure in self.chosen_measures():
            measure.check(self)

    def check(self, family: str) -> None:
        """Errors: ConfigError where this family could not be trained as it is configured."""
        config = self.training_of(family, Path("out"), Path("train.bin"), Path("heldout.bin"))
        model = config.looped_config(self.vocab_size)
        config.loop_recipe(model.loop)
        micro = config.micro_batch_size
        _require(
            micro is None or config.batch_size % micro == 0,
            "micro_batch_size",
            micro,
            f"a divisor of batch_size={config.batch_size}",
        )

    def chosen_measures(self) -> list[Measure]:
        """The measures with their settings, in the order they run. Errors: ConfigError."""
        from probes.reproduction.measures import MEASURES

        for name in self.measures:
            if name not in MEASURES:
                raise ConfigError(f"measures: unknown {name!r}.{nearest(name, MEASURES)}")
        chosen = []
        for name, cls in MEASURES.items():
            settings = self.measures.get(name, {})
            if settings is None:
                continue
            known = {f.name for f in dataclasses.fields(cls)}
            for key in settings.keys() - known:
                raise ConfigError(f"measures.{name}: unknown {key!r}.{nearest(key, known)}")
            chosen.append(cls(**settings))
        return chosen

    def loop_of(self, family: str) -> loops.LoopFamily:
        """The loop with its settings."""
        spec = self.families[family]
        return loops.decode({"family": family, **spec.loop})

    def model_of(self, family: str, **changes: Any) -> dict[str, Any]:
        """LoopedConfig as JSON, without the vocabulary's size; `changes` are over what all families share."""
        spec = self.families[family]
        shared, loop = {**self.model, **changes}, {"family": family, **spec.loop}
        preset = loops.family(loop["family"]).shape(int(shared.get("d_model", 0)))
        if preset.get("n_head_blocks") == 0 == preset.get("n_tail_blocks"):
            # A loop over the whole stack has as many blocks as the others have in all.
            stages = ("n_head_blocks", "n_body_blocks", "n_tail_blocks")
            usual = {f.name: f.default for f in dataclasses.fields(LoopedConfig)}
            preset["n_body_blocks"] = sum(shared.get(name, usual[name]) for name in stages)
        named = {"model_name": f"{family}-{self.name}"}
        return {**shared, **named, "loop": loop, **preset, **spec.model}

    def training_of(self, family: str, out: Path, train: Path, heldout: Path) -> TrainConfig:
        """The TrainConfig of one family: token files, and `out` for the run. Errors: ConfigError."""
        settings = {**self.training, **self.families[family].training}
        most = self.loop_of(family).max_depth
        if most is not None:
            defaults = {f.name: f.default for f in dataclasses.fields(TrainConfig)}
            for name in ("eval_n_iters", "final_n_iters"):
                depths = settings.get(name, defaults[name])
                settings[name] = [r for r in depths if r <= most] or [most]
        return TrainConfig.from_dict(
            {
                **settings,
                "model": self.model_of(family),
                "data": str(train),
                "heldout": str(heldout),
                "tokenizer": str(train.with_name("tokenizer.json")),
                "out": str(out),
                "resume": True,
            }
        )

    def only(self, families: Sequence[str]) -> ReproduceConfig:
        """The same with some families. Errors: InputError for an unknown one."""
        for name in families:
            if name not in self.families:
                raise InputError(
                    f"families={name!r}: expected some of {', '.join(self.families)}."
                    f"{nearest(name, self.families)}"
                )
        kept = {name: spec for name, spec in self.families.items() if name in set(families)}
        return dataclasses.replace(self, families=kept)

    def replace(self, **changes: Any) -> ReproduceConfig:
        """A copy with the named fields changed. Errors: ConfigError."""
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> ReproduceConfig:
        """Inverse of `to_dict`. Errors: ConfigError for unknown, missing or impossible fields."""
        known = {f.name for f in dataclasses.fields(cls)}
        for name in plain.keys() - known:
            raise ConfigError(f"comparison: unknown field {name!r}.{nearest(name, known)}")
        try:
            return cls(**plain)
        except TypeError as error:
            raise ConfigError(f"comparison: {error}") from None

    @classmethod
    def load(cls, name_or_path: str | Path) -> ReproduceConfig:
        """A bundled comparison by name, or a JSON file. Errors: ConfigError."""
        if str(name_or_path) in BUNDLED:
            text = resources.files("probes.reproduction").joinpath(f"{name_or_path}.json")
            return cls.from_dict(json.loads(text.read_text(encoding="utf-8")))
        try:
            plain = json.loads(Path(name_or_path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"comparison {str(name_or_path)!r}: neither one of {', '.join(BUNDLED)} nor a JSON "
                f"file that can be read: {error}"
            ) from error
        if not isinstance(plain, dict):
            raise ConfigError(f"comparison {str(name_or_path)!r}: expected a JSON object")
        return cls.from_dict(plain)


def _family(name: str, spec: Family | Mapping[str, Any]) -> Family:
    if isinstance(spec, Family):
        return spec
    known = {f.name for f in dataclasses.fields(Family)}
    for key in spec.keys() - known:
        raise ConfigError(f"families.{name}: unknown {key!r}.{nearest(key, known)}")
    return Family(**spec)


def _require(ok: bool, name: str, value: object, allowed: object) -> None:
    if not ok:
        raise ConfigError(f"comparison {name}={value!r}: expected {allowed}.")
