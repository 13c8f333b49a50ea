"""`abbie-lens split`: which blocks of a plain decoder to loop, measured on a text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.loops import Rule


def command(
    model: Annotated[str, typer.Argument(help="Installed name, folder or hub id of it.")],
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Text it has not seen, UTF-8.")
    ],
    n_iters: Annotated[int, typer.Option("--n-iters", "-r", min=1, help="r of each window.")] = 2,
    rule: Rule = None,
    lengths: Annotated[str, typer.Option(help="Blocks in a window: 1,2,4.")] = "1,2,4",
    max_tokens: Annotated[int, typer.Option(min=2, help="Of the text, from its beginning.")] = 256,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.  [the best here]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, …  [as stored]")] = None,
    figure: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file for the map of losses.")
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON on stdout.")
    ] = False,
) -> None:
    """Measure every window of a plain decoder: by how far each block turns the stream, and the loss with it looped."""
    from app.cli import loops

    sizes = _lengths(lengths)
    from abbie_lens.errors import ExistsError, InputError

    if figure is not None and figure.suffix.lower() != ".html":
        raise InputError(f"--figure {str(figure)!r}: expected a name that ends in .html")
    if figure is not None and figure.exists():
        raise ExistsError(f"--figure {str(figure)!r} exists; choose another file")
    try:
        text = file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"not UTF-8 at byte {error.start}", param_hint="FILE") from None

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
        status.update("measuring every window")
        tokens = loaded.to_tokens(text)[:, : min(max_tokens, loaded.cfg.n_ctx)]
        if tokens.shape[1] < 2:
            raise InputError(f"{file}: has no two tokens; a loss needs a next one.")
        found = split(loaded, tokens, n_iters, rule=loaded.cfg.loop, lengths=sizes)
    if figure is not None:
        found.figure(view="loss").write_html(figure)
    start, stop = found.best
    table = found.to_frame()
    if json_output:
        told = {
            "model": found.model.to_dict(), "rule": found.rule, "n_iters": n_iters,
            "n_tokens": int(tokens.shape[1]), "knee": found.knee, "plain_loss": found.plain_loss,
            "best": {"start": start, "stop": stop}, "angular": found.angular.tolist(),
            "windows": json.loads(str(table.to_json(orient="records", double_precision=15))),
        }  # fmt: skip
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{model}, {tokens.shape[1]} tokens, r = {n_iters}: {found.rule}")
    typer.echo(
        f"plain loss {found.plain_loss:.3f} nats a token; knee of the angles: block {found.knee}"
    )
    for first, length, loss, added in table.nsmallest(8, "loss").itertuples(index=False):
        typer.echo(f"  --start {first} --stop {first + length}: {loss:.3f} ({added:+.3f})")


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
