"""Labels from a table of your own: one row a labelled stretch of a text."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from abbie_lens.errors import InputError, first_line, nearest
from probes.labels.spans import SpanLabel
from probes.labels.treebank import numbered

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("document", "text", "start", "end", "label")
"""As they are called where nothing else is said; `document` may be absent."""
SUFFIXES = (".csv", ".tsv", ".parquet")


def read_table(source: str | Path, data: bytes | None = None) -> pd.DataFrame:
    """The table in a .csv, .tsv or .parquet file, or of hf:ID[:CONFIG[:SPLIT]].

    data: the file's bytes, if they are at hand; `source` then only names them. Errors: InputError.
    """
    import pandas as pd

    if str(source).startswith("hf:"):
        return _of_the_hub(str(source))
    suffix = Path(source).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(
            f"table={str(source)!r}: expected a name that ends in {', '.join(SUFFIXES)}, or hf:ID[:CONFIG[:SPLIT]]."
        )
    held: Any = source if data is None else io.BytesIO(data)
    try:
        if suffix == ".parquet":
            return pd.read_parquet(held)
        # "NA" is a word, and 007 is no number until we say so.
        return pd.read_csv(
            held, sep="\t" if suffix == ".tsv" else ",", dtype=str, keep_default_na=False
        )
    except Exception as error:  # pandas and pyarrow raise many kinds
        raise InputError(f"table={str(source)!r} can't be read: {first_line(error)}") from None


def table_label(
    table: pd.DataFrame,
    *,
    column: str = "label",
    text: str = "text",
    start: str = "start",
    end: str = "end",
    document: str = "document",
    numbers: bool | None = None,
    piece: str = "last",
) -> SpanLabel:
    """The label in a table's `column`; start and end count characters (code points) of the text from 0, end excluded.

    Rows with one `document`, or without that column one text, belong together; the text may stand in the first of them
    alone. numbers: whether labels are numbers and not classes; None: if one of them is no whole number. piece: as in
    SpanLabel. Errors: InputError naming the column, or the row (from 1) and what is wrong with it.
    """
    for name in (column, text, start, end):
        if name not in table.columns:
            known = ", ".join(map(str, table.columns))
            raise InputError(
                f"table: no column {name!r}; it has {known}.{nearest(name, map(str, table.columns))}"
            )
    if not len(table):
        raise InputError("table: it has no rows.")
    keys = table[document if document in table.columns else text].tolist()
    labels = [
        _said(value, row, column) for row, value in enumerate(table[column].tolist(), start=1)
    ]
    as_numbers = _numbers(labels, column, numbers)
    classes = () if as_numbers else tuple(sorted({str(label) for label in labels}))
    if len(classes) == 1:
        raise InputError(
            f"table: column {column!r} has one class, {classes[0]!r}; a probe needs two."
        )
    texts: dict[Any, str] = {}
    rows: dict[Any, list[tuple[int, int, Any]]] = {}
    columns = (table[c].tolist() for c in (text, start, end))
    for row, (key, said, a, b, label) in enumerate(
        zip(keys, *columns, labels, strict=True), start=1
    ):
        here = "" if said is None or said != said else str(said)
        known = texts.setdefault(key, here)
        if here and here != known:
            raise InputError(f"table, row {row}: document {key!r} has another text than before.")
        if not known.strip():
            raise InputError(
                f"table, row {row}: column {text!r} is empty, and the document has no text."
            )
        first, after = _offset(a, row, start), _offset(b, row, end)
        if not 0 <= first < after <= len(known):
            raise InputError(
                f"table, row {row}: {start}={first}, {end}={after} is not within the text's {len(known)} characters;"
                f" expected 0 <= {start} < {end} <= {len(known)}."
            )
        rows.setdefault(key, []).append((first, after, label))
    return SpanLabel(
        column,
        f"column {column!r} of the table",
        classes,
        tuple(texts.values()),
        tuple(np.array([r[:2] for r in rows[key]], np.int64) for key in texts),
        tuple(numbered([r[2] for r in rows[key]], classes) for key in texts),
        piece,
    )


def _of_the_hub(source: str) -> pd.DataFrame:
    from datasets import load_dataset

    name, config, split = [*source.removeprefix("hf:").split(":", 2), "", ""][:3]
    if not name:
        raise InputError(f"table={source!r} names no dataset; expected hf:ID[:CONFIG[:SPLIT]]")
    try:
        loaded: Any = load_dataset(name, config or None, split=split or "train")
        return loaded.to_pandas()
    except Exception as error:  # `datasets` raises its own, the hub's and the network's errors
        raise InputError(f"table={source!r} can't be read: {first_line(error)}") from None


def _said(value: Any, row: int, column: str) -> Any:
    if value is None or value != value or not str(value).strip():
        raise InputError(
            f"table, row {row}: column {column!r} is missing (NaN); leave such rows out."
        )
    return value


def _numbers(labels: list[Any], column: str, asked: bool | None) -> bool:
    """Whether the labels are numbers; `asked` decides if given."""
    if asked is False:
        return False
    try:
        values = np.array([float(label) for label in labels])
    except (TypeError, ValueError):
        if asked:
            raise InputError(f"table: column {column!r} does not hold numbers only.") from None
        return False
    if not np.isfinite(values).all():
        raise InputError(
            f"table: column {column!r} has a value that is not finite; leave such rows out."
        )
    return bool(asked or (values % 1 != 0).any())


def _offset(value: Any, row: int, column: str) -> int:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if number != number or number % 1:
        raise InputError(
            f"table, row {row}: {column}={value!r}; expected a whole number of characters."
        )
    return int(number)
