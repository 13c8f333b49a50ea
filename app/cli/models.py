"""`abbie-lens models`: the bundled models and what they reached, read from their own files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from abbie_lens.zoo import ZooModel


def command(
    loops: Annotated[bool, typer.Option("--loops", help="List the loop families instead.")] = False,
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON on stdout.")] = False,
) -> None:
    """List the bundled models with their sizes and held-out losses by depth r, or the loop families."""
    if loops:
        return _print_loops(json_output)
    from abbie_lens import zoo

    rows = [_row(model) for model in zoo.models()]
    if json_output:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("This installation carries no bundled model.", err=True)
        return
    _print(rows)


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


def _row(model: ZooModel) -> dict[str, Any]:
    evaluation = model.metrics.get("evaluation", {})
    nll = dict(zip(evaluation.get("n_iters", ()), evaluation.get("nll", ()), strict=True))
    return {
        "name": model.name,
        "family": model.config.loop.family,
        "n_params": model.n_params,
        "bytes": model.n_bytes,
        "trained_n_iters": model.config.n_iters,
        "n_ctx": model.config.n_ctx,
        "heldout_nll": {str(r): value for r, value in nll.items()},
        "path": str(model.path),
    }


def _print(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    depths = sorted({int(r) for row in rows for r in row["heldout_nll"]})
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("model", no_wrap=True)
    table.add_column("loop", no_wrap=True)
    for name in ("parameters", "file", "trained r", *(f"NLL r={r}" for r in depths)):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        losses = [row["heldout_nll"].get(str(r)) for r in depths]
        table.add_row(
            row["name"],
            row["family"],
            f"{row['n_params'] / 1e6:.2f}M",
            f"{row['bytes'] / 2**20:.1f} MiB",
            str(row["trained_n_iters"]),
            *("" if loss is None else f"{loss:.3f}" for loss in losses),
        )
    # Not cut to the width of a pipe, where no one would see that columns are missing.
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)
    typer.echo("NLL: held-out nats per token after r iterations; lower is better.")
