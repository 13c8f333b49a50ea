"""Reading text: local files, globs and Hugging Face datasets, one document at a time.

A source is one of
* a path or a glob of `.txt`, `.jsonl` (a `text` field a line), each also as `.gz` or `.xz`;
  in a `.txt` a form feed separates documents;
* `hf:ID[:CONFIG[:SPLIT]]`, streamed through `datasets` (default configuration, split "train").
"""

import glob
import gzip
import json
import lzma
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from abbie_lens.errors import InputError

_CHUNK = 1 << 20
_OPENERS = {".gz": gzip.open, ".xz": lzma.open}


def read_documents(source: str) -> Iterator[str]:
    """Yield the non-empty documents of `source` in order.

    Raises InputError where the source doesn't exist, can't be read as text, or holds no text.
    """
    documents = _hub_documents(source) if source.startswith("hf:") else _local_documents(source)
    found = False
    for document in documents:
        if document.strip():
            found = True
            yield document
    if not found:
        raise InputError(f"data={source!r} holds no text: every document in it is empty")


def _local_documents(source: str) -> Iterator[str]:
    for path in local_files(source):
        stem, opener = path, _OPENERS.get(path.suffix)
        if opener is not None:
            stem = path.with_suffix("")
        try:
            with (opener or open)(path, "rt", encoding="utf-8", newline="") as stream:
                yield from _lines(stream, path) if stem.suffix == ".jsonl" else _form_feeds(stream)
        except (lzma.LZMAError, EOFError, OSError, UnicodeDecodeError) as error:
            raise InputError(f"data={str(path)!r} can't be read as text: {error}") from error


def local_files(source: str) -> list[Path]:
    """The files that a path or a glob names, sorted."""
    if Path(source).is_file():
        return [Path(source)]
    paths = sorted(Path(p) for p in glob.glob(source, recursive=True) if Path(p).is_file())
    if not paths:
        raise InputError(
            f"data={source!r} names no file; allowed: a file, a glob (quoted), or hf:ID[:CONFIG[:SPLIT]]"
        )
    return paths


def _form_feeds(stream: IO[str]) -> Iterator[str]:
    rest: list[str] = []
    while chunk := stream.read(_CHUNK):
        head, *others = chunk.split("\f")
        rest.append(head)
        for other in others:
            yield "".join(rest)
            rest = [other]
    yield "".join(rest)


def _lines(stream: IO[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        try:
            text = json.loads(line)["text"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise InputError(
                f'data={str(path)!r}, line {number}: expected an object with a "text" field'
            ) from error
        if not isinstance(text, str):
            raise InputError(f'data={str(path)!r}, line {number}: "text" is not a string')
        yield text


def _hub_documents(source: str) -> Iterator[str]:
    from datasets import load_dataset

    name, config, split = [*source.removeprefix("hf:").split(":", 2), "", ""][:3]
    if not name:
        raise InputError(f"data={source!r} names no dataset; expected hf:ID[:CONFIG[:SPLIT]]")
    try:
        for row in load_dataset(name, config or None, split=split or "train", streaming=True):
            if "text" not in row:
                raise InputError(f'data={source!r} has no "text" column, only {sorted(row)}')
            yield row["text"] or ""
    except InputError:
        raise
    except Exception as error:  # `datasets` raises its own, the hub's and the network's errors
        raise InputError(f"data={source!r} can't be read: {error}") from error
