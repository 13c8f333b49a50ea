"""`abbie-lens retrofit`: a looped model cut out of a plain one, saved for `abbie-lens train --init-from`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer


def command(
    source: Annotated[
        str, typer.Argument(help="Bundled name, folder or hub id of the plain model.")
    ],
    body: Annotated[str, typer.Option(help="Blocks to loop over, e.g. 10-17 or 4,5,6.")],
    out: Annotated[Path, typer.Option(help="Folder of the new model.")],
    head: Annotated[str, typer.Option(help="Blocks before the loop, e.g. 0-3.  [none]")] = "",
    tail: Annotated[str, typer.Option(help="Blocks after the loop.  [none]")] = "",
    n_iters: Annotated[int, typer.Option(help="Depth it is to be trained at.")] = 4,
    adapter: Annotated[
        str, typer.Option(help="How the adapter of state and input begins: sum, input or random.")
    ] = "sum",
    seed: Annotated[int, typer.Option(help="Of a random adapter.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model saved there.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON on stdout.")
    ] = False,
) -> None:
    """Cut a looped model out of a plain one: chosen blocks become Head, Body and Tail. Train it afterwards."""
    chosen = {
        stage: _numbers(text, stage)
        for stage, text in (("head", head), ("body", body), ("tail", tail))
    }
    from abbie_lens import load
    from abbie_lens.conversion.retrofit import cut

    stages = (chosen["head"], chosen["body"], chosen["tail"])
    model = cut(load(source, "cpu"), *stages, n_iters=n_iters, adapter=adapter, seed=seed)
    folder = model.save_pretrained(out, overwrite=overwrite)
    info = model.info()
    if json_output:
        told = {"model": str(folder), "n_params": info.n_params, **chosen}
        typer.echo(json.dumps(told))
        return
    sizes = "-".join(str(len(numbers)) for numbers in chosen.values())
    typer.echo(f"{folder}\n{sizes} blocks, {info.n_params:,} parameters")


def _numbers(text: str, stage: str) -> list[int]:
    """Block numbers of "0-3,7"."""
    numbers: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise typer.BadParameter(
                f"{part!r}: expected block numbers such as 0-3,7", param_hint=f"'--{stage}'"
            )
        first = int(found[1])
        numbers += range(first, int(found[2] or first) + 1)
    return numbers
