"""`abbie-lens convert`: pickled weights made into safetensors, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import Json


def command(
    source: Annotated[str, typer.Argument(help="Pickled file, folder with one, or hub id.")],
    out: Annotated[
        Path | None, typer.Option(help="File or folder to write.  [beside it, or ./NAME]")
    ] = None,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.")] = None,
    json_output: Json = False,
) -> None:
    """Read pickled weights once, tensors alone (weights_only=True), and write them as safetensors."""
    from abbie_lens.files.convert import convert

    written = convert(source, out, revision=revision)
    typer.echo(json.dumps({"converted": str(written)}) if json_output else str(written))
