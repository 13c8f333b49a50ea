"""Choosing on a page what a probe is to read: by name, from an uploaded treebank or table, or from a task."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

import streamlit as st

from abbie_lens import tasks
from abbie_lens.errors import InputError
from app.trained import own_task
from app.view import notices
from probes import labels

SOURCES = {
    "text": "The text alone",
    "conllu": "A treebank",
    "table": "A table",
    "task": "A task",
}
MAX_MEGABYTES = 5
"""Of an uploaded file."""


@dataclass(frozen=True)
class Choice:
    """A label, known by where it comes from."""

    key: tuple[str, ...]
    label: labels.Labelling | labels.Counted = field(compare=False)


def choose(model: str) -> Choice | None:
    """Draw the choice; None, with a notice, while nothing can be read."""
    offered = [s for s in SOURCES if s != "task" or own_task(model) is not None]
    source = st.segmented_control(
        "Labels from", offered, default="text", required=True, key="label_source",
        format_func=SOURCES.get,
    )  # fmt: skip
    with notices.calm("These labels cannot be read", key="notice-labels"):
        if source == "conllu":
            return _treebank()
        if source == "table":
            return _table()
        if source == "task":
            return _task(model)
        return _text()
    return None


def need_text() -> bool:
    """Whether the labels chosen are of any text."""
    return st.session_state.get("label_source", "text") == "text"


def _text() -> Choice:
    known = labels.LABELS | labels.COUNTED
    name = st.selectbox(
        "Read this from each token's state", list(known), key="label", bind="query-params",
        format_func=lambda name: f"{name.replace('_', ' ')}: {known[name].description}",
    )  # fmt: skip
    return Choice(("text", name), known[name])


def _treebank() -> Choice | None:
    first, second, third = st.columns([3, 2, 2])
    with first:
        data = _upload("A file in CoNLL-U, with # newdoc between documents", ["conllu"])
    name = second.selectbox("Label of its words", labels.TREEBANK_LABELS, key="treebank_label")
    with third:
        piece = _piece()
    if data is None:
        return None
    label = labels.treebank_label(_parsed(*data), name, piece)
    return Choice(("conllu", _digest(data[1]), name, piece), label)


def _table() -> Choice | None:
    first, second, third = st.columns([3, 2, 2])
    with first:
        data = _upload(
            "Columns document, text, start, end, label; a row a stretch", ["csv", "tsv", "parquet"]
        )
    with third:
        piece = _piece()
    if data is None:
        return None
    table = labels.read_table(*data)
    names = [str(name) for name in table.columns]
    column = second.selectbox(
        "Column of the label", names, key="table_column",
        index=names.index("label") if "label" in names else len(names) - 1,
    )  # fmt: skip
    label = labels.table_label(table, column=column, piece=piece)
    return Choice(("table", _digest(data[1]), column, piece), label)


def _task(model: str) -> Choice:
    task = own_task(model)
    assert task is not None
    name = st.selectbox(
        "Label of its answers", list(labels.TASK_LABELS), key="task_label",
        format_func=lambda name: f"{name}: {labels.TASK_LABELS[name]}",
    )  # fmt: skip
    settings = str(sorted(tasks.encode(task).items()))
    return Choice(("task", settings, name), labels.task_label(task, name))


def _piece() -> str:
    return st.selectbox(
        "Of a word in several tokens, label", labels.PIECES, key="label_piece",
        help="The last one by default: there a causal model has read the whole word.",
    )  # fmt: skip


def _upload(title: str, types: list[str]) -> tuple[str, bytes] | None:
    """Name and content of a file. Errors: InputError for one that is too large."""
    file = st.file_uploader(
        title, type=types, max_upload_size=MAX_MEGABYTES, key=f"upload_{types[0]}",
        help=f"At most {MAX_MEGABYTES} MB. It is read in memory and kept nowhere.",
    )  # fmt: skip
    if file is None:
        return None
    if file.size > MAX_MEGABYTES << 20:
        raise InputError(
            f"{file.name}: {file.size / 2**20:.1f} MB; at most {MAX_MEGABYTES} MB are read here."
            " abbie-lens probe reads files of any size."
        )
    return file.name, file.getvalue()


@st.cache_resource(max_entries=4, show_spinner="Reading the treebank…")
def _parsed(name: str, content: bytes) -> labels.Treebank:
    try:
        return labels.parse_conllu(content.decode("utf-8-sig"), name)
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start}.") from None


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
