"""Bundles on a page: opened from a folder or an uploaded zip, and written as a zip to take along."""

from __future__ import annotations

import io
import shlex
import tempfile
import zipfile
from contextlib import suppress
from pathlib import Path

import streamlit as st

from abbie_lens.errors import InputError
from app import exporting, looping
from app.view import demand, downloads, runs
from app.view.source import NAMES, BundleSource, LiveSource, Source
from probes import Result, bundle

MANIFEST = "manifest.json"
MAX_BYTES = 2**30


def open_first(folder: str | None) -> None:
    """Show the bundle the server was started with, once a session, so that it can be closed again."""
    if folder is None or "bundle_seen" in st.session_state:
        return
    st.session_state["bundle_seen"] = True
    st.session_state["bundle"] = BundleSource(Path(folder).name, bundle.load(folder))


def open_zip(name: str, content: bytes) -> None:
    """Show an uploaded bundle. Errors: InputError if the file is no zip of a bundle."""
    with tempfile.TemporaryDirectory() as folder:
        root = unpack(content, Path(folder))
        st.session_state["bundle"] = BundleSource(Path(name).stem, bundle.load(root))


def unpack(content: bytes, folder: Path) -> Path:
    """Extract a zip into `folder` and return where its manifest lies.

    Errors: InputError for another kind of file, one without a manifest, or one that unpacks to more
    than 1 GiB.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
            if size > MAX_BYTES:
                raise InputError(
                    f"The zip unpacks to {size / 2**30:.1f} GiB; at most 1 GiB is read."
                )
            archive.extractall(folder)  # drops absolute paths and ".." by itself
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"This is not a zip file that can be read: {error}") from None
    found = sorted(folder.rglob(MANIFEST), key=lambda path: len(path.parts))
    if not found:
        raise InputError(f"The zip holds no {MANIFEST}; expected a bundle exported by abbie-lens.")
    return found[0].parent


def pack(folder: Path) -> bytes:
    """A zip of everything in `folder`, under its own name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, Path(folder.name) / path.relative_to(folder))
    return buffer.getvalue()


def contents(source: Source) -> tuple[str, dict[str, list[str]]]:
    """Name of the source's bundle, and a table of what is in it."""
    results = _results(source)
    any_result = next(iter(results.values()))
    sizes = [f"{len(result.to_frame()):,} rows" for result in results.values()]
    table = {"result": [NAMES.get(name, name) for name in results], "table": sizes}
    return downloads.file_name(any_result, "bundle", "").removesuffix("."), table


def build(source: Source, name: str) -> bytes:
    """The zip of the source's bundle, written anew."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / name
        settings: dict[str, object]
        if isinstance(source, LiveSource):
            states = exporting.states(
                runs.model(source.model, source.loop), source.text, source.n_iters
            )
            settings = {"text": source.text, "n_iters": source.n_iters}
            if source.loop is not None:
                settings["loop"] = looping.settings(source.loop)
        else:
            states, settings = source.bundle.states, source.bundle.manifest.get("settings", {})
        bundle.save(_results(source), folder, states=states, settings=settings)
        return pack(folder)


def command(source: Source) -> str:
    """The command line that writes the same bundle; with `--full` where costly results were computed here, all of them."""
    if not isinstance(source, LiveSource):
        return f"abbie-lens app --bundle {shlex.quote(source.name)}"
    asked = {"--model": source.model}
    if (loop := source.loop) is not None:
        asked |= {
            "--start": str(loop.start),
            "--stop": str(loop.stop),
            "--loop": looping.spelt(loop),
        }
    asked |= {"--n-iters": str(source.n_iters), "--out": "run"}
    parts = [part for pair in asked.items() for part in pair]
    parts += ["--full"] if demand.finished(source) else []
    return shlex.join(["abbie-lens", "diagnose", source.text, *parts])


def _results(source: Source) -> dict[str, Result]:
    if not isinstance(source, LiveSource):
        return source.bundle.results
    found = {kind: source.result(kind) for kind in exporting.NEEDED}
    for kind in exporting.CHEAP + exporting.FITTED:
        with suppress(InputError):  # the model does not allow it; its own page says why
            found[kind] = source.result(kind)
    return found | demand.finished(source)
