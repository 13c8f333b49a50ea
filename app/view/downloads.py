"""Download buttons: the same result object that drew the figure writes the file."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import streamlit as st

from probes import Result

_TYPES = {
    "csv": ("CSV", "text/csv"),
    "parquet": ("Parquet", "application/vnd.apache.parquet"),
    "html": ("HTML", "text/html"),
}


def buttons(result: Result, key: str) -> None:
    """CSV and Parquet of the table, HTML of the figure."""
    with st.container(horizontal=True, gap="xsmall", key=f"download-{key}"):
        for suffix, (label, mime) in _TYPES.items():
            st.download_button(
                label,
                partial(contents, result, suffix),
                file_name=file_name(result, key, suffix),
                mime=mime,
                key=f"download-{key}-{suffix}",
                on_click="ignore",
                type="tertiary",
                icon=":material/download:",
            )


def contents(result: Result, suffix: str) -> bytes:
    """The file `result.save` writes for this suffix."""
    return written(lambda path: result.save(path), f"result.{suffix}")


def written(write: Callable[[Path], object], name: str) -> bytes:
    """The bytes of the file that `write(path)` leaves."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path)
        return path.read_bytes()


def file_name(result: Result, key: str, suffix: str) -> str:
    """`model-analysis-r16.csv`, of characters that every file system takes."""
    model = re.sub(r"[^A-Za-z0-9._-]+", "-", result.model.name).strip("-.") or "model"
    return f"{model}-{key}-r{result.n_iters}.{suffix}"
