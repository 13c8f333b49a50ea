"""Models and analyses, each computed once per (checkpoint, text, r, options) and shared by all visitors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import streamlit as st

import abbie_lens
from abbie_lens.errors import AbbieLensError, InputError
from app import exporting
from probes import Result


def model(name: str) -> Any:
    """The model called `name` (bundled name, folder or hub id), loaded once for all visitors."""
    return _load(name, _stamp(name))[0]


def checkpoint(name: str) -> tuple[str, str]:
    """What tells the runs of the model called `name` from those of another, or of the same name before."""
    return _load(name, _stamp(name))[1]


def deepest(name: str) -> int | None:
    """Most iterations that the model called `name` takes; None where any number does, or it cannot be loaded."""
    try:
        return model(name).cfg.loop.max_depth
    except AbbieLensError:
        return None


def analysis(kind: str, name: str, text: str, n_iters: int, /, **options: Any) -> Result:
    """Result of one analysis of one prompt. Errors: InputError for an empty prompt."""
    if not text.strip():
        raise InputError("The prompt is empty: type some text in the sidebar.")
    loaded, checkpoint = _load(name, _stamp(name))
    return _analyse(kind, loaded, checkpoint, text, n_iters, tuple(sorted(options.items())))


@st.cache_resource(max_entries=4, show_spinner="Loading the model…")
def _load(name: str, stamp: tuple[float, ...]) -> tuple[Any, tuple[str, str]]:
    """The model, and what tells its runs from another's.

    The weights alone do not: the same ones run in another loop are another model.
    """
    loaded = abbie_lens.load(name)
    return loaded, (loaded.info().weight_hash, json.dumps(loaded.cfg.to_dict(), sort_keys=True))


# Results are frozen and their arrays read-only, so one object serves every session without copies.
@st.cache_resource(max_entries=64, show_spinner="Running the model…")
def _analyse(
    kind: str, _model: Any, checkpoint: tuple[str, str], text: str, n_iters: int, options: tuple
) -> Result:
    return exporting.run(kind, _model, text, n_iters, **dict(options))


def _stamp(name: str) -> tuple[float, ...]:
    """Times of the files of a folder, so that a checkpoint written anew is loaded anew."""
    folder = Path(name)
    if not folder.is_dir():
        return ()
    return tuple(sorted(path.stat().st_mtime for path in folder.iterdir() if path.is_file()))
