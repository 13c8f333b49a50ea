"""What to judge on which text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from abbie_lens.errors import ConfigError
from abbie_lens.settings import check_types
from probes.labels import get_label

COUNTED = ("all", "answers")


@dataclass(frozen=True)
class StudyConfig:
    """Settings of a study of halting over a corpus. Errors: ConfigError for a value out of range, InputError for a label."""

    data: str
    """Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]] (`abbie_lens.corpus.read_documents`)."""
    out: str
    """Folder of the shards and of the result."""
    n_iters: int = 16
    """Full depth."""
    window: int | None = None
    """Tokens that the model reads at once; None: its context, at most 512."""
    batch_size: int = 8
    """Full windows at once."""
    stretch_tokens: int = 1 << 14
    """Tokens of a shard, up to a window more; a token takes 4 bytes for each rule and iteration, and 10 an iteration."""
    max_tokens: int | None = None
    """Tokens to read, up to a window more; None: all."""
    label: str = "current_class"
    """Classes of tokens that are told apart (`probes.labels`)."""
    points: int = 8
    """Operating points of a rule besides its default threshold: target mean depths, evenly from 1 to r."""
    mean_depths: tuple[float, ...] = ()
    """Target mean depths chosen by hand, in the place of `points`."""
    counted: str = "all"
    """Which tokens count: "all" that have a next one, or "answers", those whose next one is an answer of the model's task."""
    sample: int = 4096
    """Tokens from which thresholds are chosen; what they then do is measured on all."""
    seed: int = 0
    """Of the sample and the bootstrap."""

    def __post_init__(self) -> None:
        check_types(self, "halting: ")
        get_label(self.label)
        for name, least in (
            ("n_iters", 1), ("batch_size", 1), ("stretch_tokens", 1), ("max_tokens", 1),
            ("window", 2), ("sample", 2), ("points", 1),
        ):  # fmt: skip
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"halting: {name}={value!r}: expected an integer >= {least}.")
        for depth in self.mean_depths:
            if not 0 <= depth <= self.n_iters:
                raise ConfigError(
                    f"halting: mean_depths: {depth:g}: expected 0 to r={self.n_iters}."
                )
        if self.counted not in COUNTED:
            raise ConfigError(
                f"halting: counted={self.counted!r}: expected one of {', '.join(COUNTED)}."
            )

    @property
    def targets(self) -> tuple[float, ...]:
        """Mean depths that a rule's thresholds are chosen for."""
        if self.mean_depths:
            return tuple(map(float, self.mean_depths))
        r = self.n_iters
        return tuple(np.linspace(1, r, self.points)) if self.points > 1 else ((1 + r) / 2,)

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out).expanduser()

    def settled(self) -> dict[str, Any]:
        """What a study that goes on must have been begun with, in plain JSON types."""
        plain = dataclasses.asdict(self)
        del plain["out"]
        plain["mean_depths"] = list(self.mean_depths)
        return plain
