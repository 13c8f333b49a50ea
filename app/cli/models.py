"""`abbie-lens models`: the bundled models and what they reached, and the installed ones, from their own files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import Json

if TYPE_CHECKING:
    from abbie_lens.zoo import ZooModel
    from app.catalog import Entry


def command(
    loops: Annotated[bool, typer.Option("--loops", help="List the loop families instead.")] = False,
    json_output: Json = False,
) -> None:
    """List the bundled models (sizes, held-out loss or accuracy on a task by depth r) and the installed ones; or the loop families."""
    if loops:
        return _print_loops(json_output)
    from abbie_lens import zoo
    from abbie_lens.files import installed
    from app import catalog

    rows = [_row(model) for model in zoo.models()]
    fetched = [catalog.describe(name) for name in installed.names()]
    if json_output:
        typer.echo(json.dumps([*rows, *(_fetched(entry) for entry in fetched)]))
        return
    if rows:
        _print(rows)
    else:
        typer.echo("This installation carries no bundled model.", err=True)
    for entry in fetched:
        typer.echo(f"Installed: {entry.name}, {entry.what}, {entry.size}")


def _print_loops(json_output: bool) -> None:
    import sys

    from abbie_lens.loops import FAMILIES

    said = {
        name: (sys.modules[cls.__module__].__doc__ or "").split("\n")[0]
        for name, cls in FAMILIES.items()
    }
    if json_output:
        typer.echo(json.dumps(said))
        return
    for name, line in said.items():
        typer.echo(f"{name:<10} {line}")


def _fetched(entry: Entry) -> dict[str, Any]:
    """An installed model has no measurements of ours."""
    return {
        "name": entry.name,
        "group": entry.group,
        "what": entry.what,
        "n_params": entry.n_params,
        "bytes": entry.n_bytes,
        "n_blocks": entry.n_blocks,
    }


def _row(model: ZooModel) -> dict[str, Any]:
    evaluation = model.metrics.get("evaluation", {})
    nll = dict(zip(evaluation.get("n_iters", ()), evaluation.get("nll", ()), strict=True))
    return {
        "name": model.name,
        "group": "bundled",
        "family": model.config.loop.family,
        "n_params": model.n_params,
        "bytes": model.n_bytes,
        "trained_n_iters": model.config.n_iters,
        "n_ctx": model.config.n_ctx,
        "heldout_nll": {str(r): value for r, value in nll.items()},
        "accuracy": _accuracy(model),
        "path": str(model.path),
    }


def _accuracy(model: ZooModel) -> dict[str, Any] | None:
    """Mean accuracy at each r over the difficulties of the training, and over harder ones; None without a task."""
    if not (stored := model.metrics.get("accuracy")):
        return None
    import math

    from abbie_lens import tasks
    from abbie_lens.tasks.evaluate import TaskEvaluation
    from probes.leaderboard import by_range

    evaluation = TaskEvaluation.from_dict(stored)
    means = {
        name: {
            str(r): None if math.isnan(value) else float(value)
            for r, value in zip(evaluation.n_iters, curve.value, strict=True)
        }
        for name, curve in zip(("trained", "beyond"), by_range(evaluation), strict=True)
    }
    return {
        "task": evaluation.task["task"],
        "chance": evaluation.chance,
        "trained_difficulty": list(tasks.decode(evaluation.task).train_difficulty),
        "tested_difficulty": [min(evaluation.difficulty), max(evaluation.difficulty)],
        **means,
    }


def _print(rows: list[dict[str, Any]]) -> None:
    on_task = [row for row in rows if row["accuracy"]]
    on_text = [row for row in rows if not row["accuracy"]]
    if on_text:
        depths = sorted({int(r) for row in on_text for r in row["heldout_nll"]})
        _table(
            on_text,
            {f"NLL r={r}": [row["heldout_nll"].get(str(r)) for row in on_text] for r in depths},
        )
        typer.echo("NLL: held-out nats per token after r iterations; lower is better.")
    if on_task:
        parts = [(row, part) for row in on_task for part in ("trained", "beyond")]
        found = [(row["accuracy"], part) for row, part in parts]
        depths = sorted({int(r) for a, part in found for r in a[part]})
        columns: dict[str, list[Any]] = {
            "task": [a["task"] for a, _ in found],
            "chance": [a["chance"] for a, _ in found],
            "asked": [_asked(a, part) for a, part in found],
            **{f"acc. r={r}": [a[part].get(str(r)) for a, part in found] for r in depths},
        }
        _table([row for row, _ in parts], columns)
        typer.echo(
            "Accuracy after r iterations, mean over the numbers of steps asked for; empty where the "
            "model refuses r. Harder: beyond those of the training."
        )


def _asked(accuracy: dict[str, Any], part: str) -> str:
    (low, high), hardest = accuracy["trained_difficulty"], accuracy["tested_difficulty"][1]
    if part == "trained":
        return f"{low}–{high} steps"
    return f"harder, {high + 1}–{hardest}" if hardest > high else "nothing harder"


def _table(rows: list[dict[str, Any]], columns: dict[str, list[Any]]) -> None:
    """Who the models are, and `columns` of what they reached: text, numbers, None."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    table.add_column("loop", no_wrap=True)
    for name in ("parameters", "file", "trained r", *columns):
        table.add_column(name, justify="right", no_wrap=True)
    for i, row in enumerate(rows):
        table.add_row(
            row["name"],
            row["family"],
            f"{row['n_params'] / 1e6:.2f}M",
            f"{row['bytes'] / 2**20:.1f} MiB",
            str(row["trained_n_iters"]),
            *(_cell(values[i]) for values in columns.values()),
        )
    # Not cut to the width of a pipe, where no one would see that columns are missing.
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)
