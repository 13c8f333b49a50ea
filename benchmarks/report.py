"""results.json and the RESULTS.md made from it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]

_TITLE = """\
# Results

Written by `make bench` from `benchmarks/results.json`. A value is the median over paired runs that alternate in one
process; a target that cannot be measured on this machine has none.

| Benchmark | Value | Target | | Unit |
|---|---:|---:|---|---|
"""


def met(row: Row) -> bool | None:
    """Whether the target is met; None where there is no value."""
    if row["value"] is None:
        return None
    lower = row["better"] == "lower"
    return row["value"] <= row["target"] if lower else row["value"] >= row["target"]


def markdown(rows: list[Row]) -> str:
    """RESULTS.md: a table, then what each row measures, how, and where."""
    verdict = {True: "met", False: "missed", None: "not measured"}
    table = "".join(
        f"| `{row['name']}` | {_number(row['value'])} | {_bound(row)} | {verdict[met(row)]} "
        f"| {row['unit']} |\n"
        for row in rows
    )
    notes = "".join(f"* `{row['name']}`: {row['detail']}\n" for row in rows)
    return f"{_TITLE}{table}\n{notes}"


def merged(old: list[Row], new: list[Row], order: list[str]) -> list[Row]:
    """`old` with the rows that were measured again replaced, in the catalogue's order, retired names dropped."""
    by_name = {row["name"]: row for row in (*old, *new)}
    return [by_name[name] for name in order if name in by_name]


def read(path: Path) -> list[Row]:
    """The rows of results.json; none where there is no file."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []


def write(rows: list[Row], results: Path, report: Path) -> None:
    """Write both files, each whole or not at all."""
    for path, text in (
        (results, json.dumps(rows, indent=2, ensure_ascii=False) + "\n"),
        (report, markdown(rows)),
    ):
        partial = path.with_name(f".{path.name}.tmp")
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _bound(row: Row) -> str:
    return f"{'≤' if row['better'] == 'lower' else '≥'} {row['target']:.2f}"
