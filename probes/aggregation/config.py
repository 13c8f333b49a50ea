"""What to run over which text."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abbie_lens.errors import ConfigError
from abbie_lens.settings import check_types
from probes.labels.text import get_label

VARIANTS = ("trained", "random", "shuffled")


@dataclass(frozen=True)
class AggregateConfig:
    """Settings of an analysis over a corpus. Errors: ConfigError for a value out of range, InputError for a label."""

    data: str
    """Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]] (`abbie_lens.corpus.read_documents`)."""
    out: str
    """Folder of the parts and of the result."""
    n_iters: int = 16
    """Depth of the run."""
    window: int | None = None
    """Tokens that the model reads at once; None: its context, at most 512."""
    batch_size: int = 8
    """Full windows at once."""
    stretch_tokens: int = 1 << 14
    """Tokens folded before something is written, up to a window more."""
    max_tokens: int | None = None
    """Tokens to read, up to a window more; None: all."""
    label: str = "current_class"
    """Classes of tokens that are told apart (`probes.labels`)."""
    variants: tuple[str, ...] = VARIANTS
    """The model as it is; random weights of its shape; itself on each window's tokens in another order."""
    sample: int = 512
    """Tokens of each class from which quantiles are told; their standard error in rank is sqrt(q (1 - q) / sample)."""
    seed: int = 0
    """Of random weights, shuffling, sample and bootstrap."""

    def __post_init__(self) -> None:
        check_types(self, "aggregate: ")
        get_label(self.label)
        known = "trained first, then any of random, shuffled"
        ok = self.variants[:1] == ("trained",) and set(self.variants) <= set(VARIANTS)
        _require(ok and len(set(self.variants)) == len(self.variants), "variants", self, known)
        for name, least in (
            ("n_iters", 1), ("batch_size", 1), ("stretch_tokens", 1), ("max_tokens", 1),
            ("window", 2), ("sample", 2),
        ):  # fmt: skip
            value = getattr(self, name)
            _require(value is None or value >= least, name, self, f"an integer >= {least}")

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out).expanduser()

    @property
    def n_classes(self) -> int:
        """Classes of tokens, with that of tokens without one."""
        return len(get_label(self.label).classes) + 1

    def settled(self) -> dict[str, Any]:
        """What a run that goes on must have been begun with, in plain JSON types."""
        plain = dataclasses.asdict(self) | {"variants": list(self.variants)}
        del plain["out"]
        return plain


def _require(ok: bool, name: str, config: AggregateConfig, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"aggregate: {name}={getattr(config, name)!r}: expected {allowed}.")
