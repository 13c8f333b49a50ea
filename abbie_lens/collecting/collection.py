"""Reading a collection: shard by shard, a row at a time, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from abbie_lens.collecting import manifest, shard
from abbie_lens.collecting.choice import key
from abbie_lens.errors import CheckpointError, SiteError
from abbie_lens.hooks.address import parse

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Shard:
    """A stretch of the text: its index and, read when asked for, its values."""

    folder: Path
    number: int
    rows: dict[str, list[int]]
    """Iterations stored, by site; [] for a site outside the loop."""

    @cached_property
    def index(self) -> pd.DataFrame:
        """One row a token: `abbie_lens.collecting.shard.INDEX`. Errors: CheckpointError for a damaged file."""
        import pandas as pd

        path = shard.index_path(self.folder, self.number)
        try:
            return pd.read_parquet(path)
        except Exception as error:  # pyarrow raises errors of its own beside OSError
            raise CheckpointError(f"{path}: can't be read ({error}).") from error

    def tensor(self, address: str, tokens: slice = slice(None)) -> Tensor:
        """Values of one row [token, ...], or of several stacked [iteration, token, ...], in the stored dtype.

        A bare name means every iteration, as in a cache; of `tokens` nothing else is read. Errors: SiteError for what was not collected;
        CheckpointError for a damaged file.
        """
        wanted = parse(address, self.rows)
        stored = self.rows[wanted.name]
        if not stored:
            if wanted.rows is not None:
                raise SiteError(
                    f"{address}: {wanted.name} is outside the loop and has no iterations."
                )
            return self._read([key(wanted.name, None)], tokens)[0]
        rows = stored if wanted.rows is None else wanted.select(max(stored) + 1)
        if missing := sorted(set(rows) - set(stored)) or (
            wanted.rows is None and stored != list(range(len(stored)))
        ):
            raise SiteError(
                f"{address}: only iterations {stored} were collected"
                + (f", not {missing}." if isinstance(missing, list) else "; name them.")
            )
        found = self._read([key(wanted.name, row) for row in rows], tokens)
        return found[0] if isinstance(wanted.rows, int) else torch.stack(found)

    def _read(self, names: list[str], tokens: slice) -> list[Tensor]:
        path = shard.values_path(self.folder, self.number)
        try:
            with safe_open(path, framework="pt") as file:
                return [file.get_slice(name)[tokens] for name in names]
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: can't be read ({error}).") from error


@dataclass(frozen=True)
class Collection:
    """A folder that `collect` made, whole or in the making."""

    folder: Path
    manifest: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> Collection:
        """The collection in `folder`. Errors: CheckpointError where there is none."""
        path = Path(folder).expanduser()
        found = manifest.read(path)
        if "rows" not in found:  # an analysis over a corpus has a manifest too
            raise CheckpointError(f"{path}: is no collection; it holds no sites.")
        return cls(path, found)

    @property
    def complete(self) -> bool:
        """Whether the whole text is in it."""
        return bool(self.manifest["complete"])

    @property
    def rows(self) -> dict[str, list[int]]:
        """Iterations stored, by site; [] for a site outside the loop."""
        return self.manifest["rows"]

    def shards(self) -> Iterator[Shard]:
        """The whole shards, in the order of the text."""
        for number in shard.finished(self.folder):
            yield Shard(self.folder, number, self.rows)

    def tensors(self, address: str) -> Iterator[Tensor]:
        """`Shard.tensor` of every shard."""
        for one in self.shards():
            yield one.tensor(address)

    def index(self) -> pd.DataFrame:
        """The whole index: about 100 bytes of memory a token."""
        import pandas as pd

        return pd.concat([one.index for one in self.shards()], ignore_index=True)
