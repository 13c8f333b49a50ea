"""What `abbie-lens probe` is asked to read: `--labels` with the file, table or task that says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from probes.labels import Counted, Labelling

ROLES = ("text", "start", "end", "document")


def chosen(
    name: str,
    model: str,
    *,
    conllu: Sequence[Path] | None,
    table: str | None,
    columns: Sequence[str] | None,
    task: str | None,
    piece: str,
    n_answers: int,
    seed: int,
) -> Labelling | Counted:
    """The label that the options ask for. Errors: typer.BadParameter for options that do not go together; InputError."""
    from probes import labels

    given = [
        option for option, x in (("--conllu", conllu), ("--table", table), ("--task", task)) if x
    ]
    if len(given) > 1:
        raise typer.BadParameter(
            "labels come from one place", param_hint=f"'{given[0]}' / '{given[1]}'"
        )
    if columns and not table:
        raise typer.BadParameter("is of a --table", param_hint="'--column'")
    if conllu:
        return labels.treebank_label(labels.read_conllu(*conllu), name, piece)
    if table:
        return labels.table_label(
            labels.read_table(table), column=name, piece=piece, **_roles(columns or ())
        )
    if task:
        return labels.task_label(_task(task, model), name, n=n_answers, seed=seed)
    return labels.find_label(name)


def _roles(columns: Sequence[str]) -> dict[str, Any]:
    """`text=body` as an argument."""
    found = {}
    for column in columns:
        role, equals, called = column.partition("=")
        if role not in ROLES or not equals or not called:
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
        raise typer.BadParameter(
            f"{name!r}: known are {', '.join(tasks.TASKS)}", param_hint="'--task'"
        )
    own = own_task(model)
    return own if own is not None and own.name == name else tasks.make(name)
