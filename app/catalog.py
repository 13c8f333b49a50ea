"""The models on offer, in three groups, each with what it is and how large: for the dashboard and `abbie-lens models`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod
from pathlib import Path

from abbie_lens import zoo
from abbie_lens.errors import AbbieLensError
from abbie_lens.files import hub, installed
from abbie_lens.files.formats import recognise
from abbie_lens.files.layout import CONFIG, is_model_folder, read_config, read_json
from abbie_lens.files.memory_plan import size
from abbie_lens.files.plain import describe_plain, is_plain
from abbie_lens.files.weights import stored_shapes, weight_files

GROUPS = {"bundled": "Bundled", "installed": "Installed", "own": "Folder or hub id"}


@dataclass(frozen=True)
class Entry:
    """One model, seen from outside: no weight is read."""

    name: str
    """What `abbie_lens.load` takes."""
    group: str
    """One of GROUPS."""
    what: str
    """Its loop, `plain decoder`, or why it cannot be told."""
    n_params: int | None = None
    n_bytes: int | None = None
    """Of its weight files."""
    n_blocks: int | None = None
    """Of a plain decoder; None for a model that brings its own loop, or one that is not on this machine."""

    @property
    def size(self) -> str:
        """`134.5M parameters, 257.43 MiB`; empty where neither is known."""
        if self.n_params is None or self.n_bytes is None:
            return ""
        return f"{count(self.n_params)} parameters, {size(self.n_bytes)}"


def group(name: str) -> str:
    """The group of a model, by its name."""
    if name in zoo.names():
        return "bundled"
    return "installed" if name in installed.names() else "own"


def folder(name: str) -> Path | None:
    """Where a model's files are on this machine; None for a hub id that was not fetched yet, or nothing."""
    if name in zoo.names():
        return zoo.path(name)
    if name in installed.names():
        return installed.path(name)
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    return hub.cached(name) if hub.is_hub_id(name) else None


def stamp(name: str) -> tuple[tuple[str, float], ...]:
    """Times of a model's files, which tell a checkpoint from one written anew under the same name.

    Nothing for a hub id: what was fetched of it stays as it is.
    """
    at = None if hub.is_hub_id(name) and not Path(name).is_dir() else folder(name)
    if at is None:
        return ()
    try:
        files = (path for path in at.iterdir() if path.is_file())
        return tuple(sorted((path.name, path.stat().st_mtime) for path in files))
    except OSError:  # it is being replaced, or gone
        return ()


def label(name: str) -> str:
    """What a model is called: the last part of a path; a training run's `final` folder is called by the run."""
    path = Path(name)
    return (path.parent.name if path.name == "final" else path.name) or name


def describe(name: str) -> Entry:
    """The entry of one model. What is damaged or missing is said in `what`, and never raised."""
    at = folder(name)
    if at is None:
        there = hub.is_hub_id(name) and not Path(name).exists()
        return Entry(name, "own", "not fetched yet" if there else "not there")
    return _described(name, group(name), at, stamp(name))


@lru_cache(maxsize=256)
def _described(name: str, kind: str, at: Path, _: object) -> Entry:
    try:
        if is_plain(at):
            it = describe_plain(at)
            what = f"plain decoder ({it.model_type}, {it.n_blocks} blocks)"
            return Entry(name, kind, what, it.n_params, it.n_bytes, it.n_blocks)
        files = weight_files(at)
        shapes = {k: shape for file in files for k, shape in stored_shapes(file).items()}
        n_params, n_bytes = sum(map(prod, shapes.values())), sum(f.stat().st_size for f in files)
        if is_model_folder(at):
            return Entry(name, kind, read_config(at)[0].loop.label, n_params, n_bytes)
        form = recognise(read_json(at / CONFIG), shapes.keys(), name)
        return Entry(name, kind, f"published format {form.name}", n_params, n_bytes)
    except (AbbieLensError, OSError, ValueError):
        return Entry(name, kind, "cannot be read")


def count(n: int) -> str:
    """A number of parameters: `134.5M`."""
    for unit, one in (("B", 10**9), ("M", 10**6), ("k", 10**3)):
        if n >= one:
            return f"{n / one:.1f}{unit}"
    return str(n)
