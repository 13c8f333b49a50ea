"""`abbie-lens split`: which blocks of a plain decoder to loop, measured on a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.loops import Rule
from app.cli.options import Device, Dtype, Json


def command(
    model: Annotated[str, typer.Argument(help="Installed name, folder or hub id of it.")],
    file: Annotated[str, typer.Argument(help="Text it has not seen: a file, or a glob in quotes.")],
    n_iters: Annotated[int, typer.Option("--n-iters", "-r", min=1, help="r of each window.")] = 2,
    rule: Rule = None,
    lengths: Annotated[str, typer.Option(help="Blocks in a window: 1,2,4.")] = "1,2,4",
    max_tokens: Annotated[int, typer.Option(min=2, help="Of the text, from its beginning.")] = 1024,
    device: Device = None,
    dtype: Dtype = None,
    figure: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file for the map of losses.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Measure every window of a plain decoder: by how far each block turns the stream, and the loss with it looped."""
    from app.cli import loops

    sizes = _lengths(lengths)
    from abbie_lens.errors import ExistsError, InputError

    if figure is not None and figure.suffix.lower() != ".html":
        raise InputError(f"--figure {str(figure)!r}: expected a name that ends in .html")
    if figure is not None and figure.exists():
        raise ExistsError(f"--figure {str(figure)!r} exists; choose another file")
    if figure is not None and not figure.parent.is_dir():
        raise InputError(f"--figure {str(figure)!r}: there is no folder {str(figure.parent)!r}")
    from rich.console import Console

    from app import catalog
    from probes.splits import split

    entry = catalog.describe(model)
    if entry.n_params is not None and entry.n_blocks is None:
        raise typer.BadParameter(
            f"{model} brings its own loop ({entry.what}); only plain decoders are split",
            param_hint="MODEL",
        )

    with Console(stderr=True).status("loading the model") as status:
        # Any window will do: the analysis makes its own.
        loaded = loops.load(model, 0, 1, rule, device=device, dtype=dtype)
        documents = _documents(loaded, file, max_tokens)
        found = split(
            loaded, documents, n_iters, rule=loaded.cfg.loop, lengths=sizes,
            progress=lambda done, total: status.update(f"measuring every window: {done} of {total}"),
        )  # fmt: skip
    if figure is not None:
        found.figure(view="loss").write_html(figure)
    start, stop = found.best
    table = found.to_frame()
    if json_output:
        told = {
            "model": found.model.to_dict(), "rule": found.rule, "n_iters": n_iters,
            "n_documents": len(documents), "knee": found.knee, "plain_loss": found.plain_loss,
            "best": {"start": start, "stop": stop}, "angular": found.angular.tolist(),
            "windows": json.loads(str(table.to_json(orient="records", double_precision=15))),
        }  # fmt: skip
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{model}, {len(documents)} document(s), r = {n_iters}: {found.rule}")
    typer.echo(
        f"plain loss {found.plain_loss:.3f} nats a token; knee of the angles: block {found.knee}"
    )
    for row in table.nsmallest(8, "loss").to_dict("records"):
        typer.echo(
            f"  --start {row['start']} --stop {row['start'] + row['length']}: {row['loss']:.3f} "
            f"({row['added']:+.3f}; {row['added_low']:+.3f} to {row['added_high']:+.3f})"
        )


def _documents(model: Any, source: str, max_tokens: int) -> list[str]:
    """The first documents of the text, as many as hold so many tokens; the last is cut."""
    from abbie_lens.corpus import encode, read_documents

    chosen, left = [], max_tokens
    for document in read_documents(source):
        for ids, spans in encode(document, model.tokenizer):
            end = len(document) if len(ids) <= left else int(spans[left - 1, 1])
            chosen.append(document[int(spans[0, 0]) : end])
            left -= min(len(ids), left)
            break
        if left == 0:
            break
    return chosen


def _lengths(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise typer.BadParameter(
            f"{text!r}: expected whole numbers >= 1, as in 1,2,4", param_hint="'--lengths'"
        )
    return sizes
