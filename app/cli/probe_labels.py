"""What `abbie-lens probe` is asked to read: `--labels` with the file, table, task or text that it is of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from probes.labels import Counted, Labelling
    from probes.probing.tree_words import TreeWords

ROLES = ("text", "start", "end", "document")
SOURCES = ("data", "conllu", "table", "task")
N_ROWS = 200
"""Rows of a task that are drawn."""
_CHARACTERS_PER_TOKEN = 12


def chosen(
    name: str, model: str, asked: Mapping[str, Any], seed: int
) -> Labelling | Counted | TreeWords:
    """The label that the options ask for. Errors: typer.BadParameter for options that do not go together; InputError."""
    from probes import labels
    from probes.probing.tree_words import TreeWords

    given = [f"--{source}" for source in SOURCES if asked[source]]
    if len(given) > 1:
        raise typer.BadParameter(
            "texts come from one place", param_hint=f"'{given[0]}' / '{given[1]}'"
        )
    if asked["columns"] and not asked["table"]:
        raise typer.BadParameter("is of a --table", param_hint="'--column'")
    if asked["conllu"]:
        bank = labels.read_conllu(*asked["conllu"])
        if name == TreeWords.name:
            return TreeWords(bank, asked["piece"])
        return labels.treebank_label(bank, name, asked["piece"])
    if asked["table"]:
        table, roles = labels.read_table(asked["table"]), _roles(asked["columns"])
        return labels.table_label(table, column=name, piece=asked["piece"], **roles)
    if asked["task"]:
        return labels.task_label(_task(asked["task"], model), name, n=N_ROWS, seed=seed)
    return labels.find_label(name)


def texts(asked: Mapping[str, Any], max_tokens: int) -> str | list[str] | None:
    """Documents of `--data`, no more than are read; None where the label brings its own, or for the bundled sample."""
    if not asked["data"]:
        return None
    from abbie_lens.corpus import read_documents

    found, size = [], 0
    for document in read_documents(asked["data"]):
        found.append(document)
        size += len(document)
        # Many documents are better than long ones: what a few hold is read on.
        if size > max_tokens * _CHARACTERS_PER_TOKEN and len(found) >= 20:
            break
    return found[0] if len(found) == 1 else found


def _roles(columns: Sequence[str]) -> dict[str, Any]:
    """`text=body` as an argument."""
    found = {}
    for column in columns:
        role, _, called = column.partition("=")
        if role not in ROLES or not called:
            raise typer.BadParameter(
                f"{column!r}: expected ROLE=NAME, ROLE one of {', '.join(ROLES)}",
                param_hint="'--column'",
            )
        found[role] = called
    return found


def _task(name: str, model: str) -> Any:
    """The task called so, with the settings that the model was trained on if it is the model's own."""
    from abbie_lens import tasks
    from app.trained import own_task

    if name not in tasks.TASKS:
        known = ", ".join(tasks.TASKS)
        raise typer.BadParameter(f"{name!r}: known are {known}", param_hint="'--task'")
    own = own_task(model)
    return own if own is not None and own.name == name else tasks.make(name)
