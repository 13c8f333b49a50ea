"""Stored metrics: one JSON file a family and measure, which appears whole or not at all; NaN is null."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from abbie_lens.errors import InputError

CONFIG = "config.json"


class Metrics:
    """The metrics of one comparison: `folder`/FAMILY/MEASURE.json."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def path(self, family: str, measure: str) -> Path:
        """Where a measure of a family is stored."""
        return self.folder / family / f"{measure}.json"

    def has(self, family: str, measure: str, of: Mapping[str, Any]) -> bool:
        """Whether the file is there and was measured on exactly `of`."""
        stored = self._read(self.path(family, measure))
        return stored is not None and stored["of"] == plain(of)

    def write(self, family: str, measure: str, of: Mapping[str, Any], values: Any) -> None:
        """Store `values` (a dataclass) with what they were measured on."""
        content = {"family": family, "measure": measure, "of": plain(of), "values": plain(values)}
        write_json(self.path(family, measure), content)

    def values(self, family: str, measure: str) -> dict[str, Any] | None:
        """What was measured, null as NaN in numbers' places; None if it was not measured."""
        stored = self._read(self.path(family, measure))
        return None if stored is None else stored["values"]

    def config(self) -> dict[str, Any]:
        """The comparison's settings. Errors: InputError where none are stored."""
        content = self._read(self.folder / CONFIG)
        if content is None:
            raise InputError(f"metrics={str(self.folder)!r}: there is no {CONFIG}; run it first")
        return content

    def families(self) -> list[str]:
        """Families in the order of the configuration."""
        return list(self.config()["families"])

    def parts(self, family: str, measure: str) -> list[str]:
        """Names of the files MEASURE-… of a family, in numerical order."""
        found = [path.stem for path in (self.folder / family).glob(f"{measure}-*.json")]
        return sorted(found, key=lambda name: (len(name), name))

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise InputError(f"metrics {str(path)!r} can't be read: {error}") from error


def plain(value: Any) -> Any:
    """Plain JSON types; numbers that are not finite become None."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value


def numbers(values: Any) -> np.ndarray:
    """A stored list, nested or not, as float64: null is NaN."""
    return np.array(values, dtype=float)


def number(value: float | None) -> float:
    """A stored number: null is NaN."""
    return math.nan if value is None else float(value)


def write_json(path: Path, content: Any) -> None:
    """Write JSON; the file appears whole or not at all."""
    # One line a list of numbers: files that people read and version control compares.
    write_text(path, _pretty(content) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text; the file appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _pretty(value: Any, indent: str = "") -> str:
    inner = indent + " "
    if isinstance(value, dict) and value:
        rows = [f"{inner}{json.dumps(k)}: {_pretty(v, inner)}" for k, v in value.items()]
        return "{\n" + ",\n".join(rows) + f"\n{indent}}}"
    if isinstance(value, list) and any(isinstance(v, list | dict) for v in value):
        return "[\n" + ",\n".join(inner + _pretty(v, inner) for v in value) + f"\n{indent}]"
    return json.dumps(value, ensure_ascii=False, allow_nan=False)
