"""Addresses: `name`, `name@3`, `name@-1`, `name@2:5`. The number after @ is the iteration, counted from 0."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from abbie_lens.errors import SiteError, nearest

_PATTERN = re.compile(
    r"(?P<name>[^@]*)(?:@(?:(?P<one>-?\d+)|(?P<start>-?\d*):(?P<stop>-?\d*)(?::(?P<step>-?\d+))?))?"
)


@dataclass(frozen=True)
class Address:
    """A site and the iterations of it that are meant; `rows=None` means every one."""

    name: str
    rows: int | slice | None = None

    def __str__(self) -> str:
        if self.rows is None:
            return self.name
        if isinstance(self.rows, int):
            return f"{self.name}@{self.rows}"
        part = lambda x: "" if x is None else str(x)  # noqa: E731
        step = "" if self.rows.step is None else f":{self.rows.step}"
        return f"{self.name}@{part(self.rows.start)}:{part(self.rows.stop)}{step}"

    def select(self, n_rows: int) -> list[int]:
        """Iterations meant, out of `n_rows`. Errors: SiteError for one that does not exist."""
        if self.rows is None:
            return list(range(n_rows))
        if isinstance(self.rows, slice):
            return list(range(n_rows))[self.rows]
        if not -n_rows <= self.rows < n_rows:
            allowed = f"0 to {n_rows - 1} (or -1 to -{n_rows})" if n_rows else "none at this depth"
            raise SiteError(f"{self}: iteration {self.rows} does not exist; allowed: {allowed}.")
        return [self.rows % n_rows]


def parse(text: str, known: Collection[str]) -> Address:
    """The address written in `text`. Errors: SiteError for a malformed address or a site not in `known`."""
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise SiteError(f"{text!r}: expected name, name@3, name@-1 or name@2:5.")
    name = match["name"]
    if name not in known:
        raise SiteError(f"{name!r}: no such site.{nearest(name, known, n=4)}")
    if match["one"] is not None:
        return Address(name, int(match["one"]))
    if match["start"] is None:
        return Address(name)
    start, stop, step = (
        int(match[part]) if match[part] else None for part in ("start", "stop", "step")
    )
    if step == 0:
        raise SiteError(f"{text!r}: a step of 0 selects nothing.")
    return Address(name, slice(start, stop, step))
