"""What to collect, from which text, and how it is stored."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from abbie_lens.errors import ConfigError
from abbie_lens.settings import check_types

DTYPES = ("float32", "float16", "bfloat16")


@dataclass(frozen=True)
class CollectConfig:
    """Settings of one collection. Errors: ConfigError for a value out of range."""

    data: str
    """Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]] (`abbie_lens.corpus.read_documents`)."""
    out: str
    """Folder of the collection."""
    sites: tuple[str, ...] = ("loop.hook_state",)
    """Addresses: a bare name means every iteration, `name@i` and `name@i:j` some."""
    n_iters: int | None = None
    """Depth of the run; None: the trained one."""
    window: int | None = None
    """Tokens that the model reads at once; None: its context, at most 512."""
    batch_size: int = 8
    """Full windows at once; of shorter ones as many as have the same number of tokens."""
    shard_tokens: int = 1 << 15
    """Tokens read for one shard, up to a window more."""
    max_tokens: int | None = None
    """Tokens to read, up to a window more; None: all."""
    share: float = 1.0
    """Share of the tokens that are kept, drawn by `seed`, document and number, whatever the batches are."""
    dtype: str = "float16"
    """Of the stored values."""
    seed: int = 0
    """Of the tokens that are kept and of a drawn h_0."""

    def __post_init__(self) -> None:
        check_types(self, "collect: ")
        _require(bool(self.sites), "sites", self.sites, "at least one address")
        _require(0 < self.share <= 1, "share", self.share, "above 0, at most 1")
        _require(self.dtype in DTYPES, "dtype", self.dtype, f"one of {DTYPES}")
        for name, least in (
            ("batch_size", 1),
            ("shard_tokens", 1),
            ("max_tokens", 1),
            ("window", 2),
        ):
            value = getattr(self, name)
            _require(value is None or value >= least, name, value, f"an integer >= {least}")

    @property
    def torch_dtype(self) -> torch.dtype:
        """Of the stored values."""
        return getattr(torch, self.dtype)

    @property
    def folder(self) -> Path:
        """`out` as a path."""
        return Path(self.out).expanduser()

    def settled(self) -> dict[str, Any]:
        """What a collection that goes on must have been begun with, in plain JSON types."""
        plain = dataclasses.asdict(self) | {"sites": list(self.sites)}
        del plain["out"]
        return plain


def _require(ok: bool, name: str, value: object, allowed: str) -> None:
    if not ok:
        raise ConfigError(f"collect: {name}={value!r}: expected {allowed}.")
