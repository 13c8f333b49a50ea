"""The one protocol of every analysis: frozen arrays, a tidy table, a figure, a file."""

from __future__ import annotations

import csv
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from abbie_lens.errors import ExistsError, InputError

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

    from abbie_lens.info import ModelInfo

_REGISTRY: dict[str, type[Result]] = {}


@dataclass(frozen=True, eq=False)
class Result:
    """Base of every analysis result; subclasses are `@dataclass(frozen=True, eq=False, kw_only=True)`.

    Fields may be NumPy arrays (made read-only), strings, numbers, None, dicts and tuples of those,
    nested results, or dicts of arrays or results: `to_arrays` takes them apart and `from_arrays`
    puts them together again.
    """

    model: ModelInfo
    """Which model produced it."""
    tokens: tuple[tuple[str, ...], ...]
    """`[batch][pos]` raw token strings; figures escape them, tables do not."""
    n_iters: int
    """r: Body applications shown."""

    title: ClassVar[str] = ""
    formula: ClassVar[str] = ""
    """One line of plain text, shown under the figure."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        known = _REGISTRY.get(cls.__name__)
        # The same module may be imported again (Streamlit reloads); another one may not take the name.
        if known is not None and known.__module__ != cls.__module__:
            raise TypeError(f"result class {cls.__name__} exists in {known.__module__} already")
        _REGISTRY[cls.__name__] = cls

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                view = value.view()
                view.setflags(write=False)
                object.__setattr__(self, field.name, view)

    def to_frame(self) -> pd.DataFrame:
        """Tidy table: one row per observation, names as columns."""
        raise NotImplementedError

    def figure(self, *args: Any, **view: Any) -> go.Figure:
        """Plotly figure; every analysis takes `theme="light" | "dark"` and keywords of its own."""
        raise NotImplementedError

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict]:
        """Take the result apart into numeric arrays and JSON metadata (see `from_arrays`)."""
        from probes import packing

        return packing.pack(self)

    @classmethod
    def from_arrays(cls, arrays: dict[str, np.ndarray], meta: dict) -> Result:
        """Inverse of `to_arrays`; the class is named in `meta`."""
        from probes import packing

        result = packing.unpack(arrays, meta)
        if not isinstance(result, cls):
            raise InputError(f"meta holds a {type(result).__name__}, not a {cls.__name__}")
        return result

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> Path:
        """Write to `path` by its suffix: .csv, .parquet (table), .html (figure), .json (table + meta).

        Raises ExistsError if the file is there and `overwrite` is false, InputError for another
        suffix. The file appears whole or not at all.
        """
        path = Path(path)
        writers: dict[str, Callable[[Path], Any]] = {
            ".csv": lambda p: self.to_frame().to_csv(
                p, index=False, quoting=csv.QUOTE_NONNUMERIC, errors="backslashreplace"
            ),
            ".parquet": lambda p: self.to_frame().to_parquet(p, index=False),
            ".html": lambda p: self.figure().write_html(p, include_plotlyjs=True),
            ".json": lambda p: p.write_text(json.dumps(self._document(), allow_nan=False)),
        }
        writer = writers.get(path.suffix.lower())
        if writer is None:
            raise InputError(f"path={str(path)!r}: the suffix must be one of {', '.join(writers)}")
        if path.exists() and not overwrite:
            raise ExistsError(f"path={str(path)!r} exists; pass overwrite=True to replace it")
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".partial-") as folder:
            partial = Path(folder) / path.name
            writer(partial)
            os.replace(partial, path)
        return path

    def _document(self) -> dict:
        # pandas writes NaN and infinities as null, which strict JSON readers accept.
        table = str(self.to_frame().to_json(orient="records", double_precision=15))
        _, meta = self.to_arrays()
        return {
            "title": self.title,
            "formula": self.formula,
            "meta": meta,
            "table": json.loads(table),
        }


def result_class(name: str) -> type[Result]:
    """The result class called `name`; InputError if none is."""
    import probes

    if name not in _REGISTRY:
        import probes.aggregation  # noqa: F401  (apart: it brings libraries that no other result needs)

    if name not in _REGISTRY:
        raise InputError(f"no result class {name!r}; known: {', '.join(sorted(_REGISTRY))}")
    return _REGISTRY[name]
