"""`abbie-lens dynamics`: an analysis of the loop over a corpus, in constant memory."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json, Resume

_PLAIN = re.compile(r"\w[\w.-]*")
_NAME = re.compile(r"(\w[\w.-]*)=(.+)")
"""Of a set, which is a folder too."""


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]], streamed. Repeated, as NAME=TEXT: sets side by side."
        ),
    ] = None,
    collected: Annotated[
        Path | None,
        typer.Option(
            help="Instead of a text: what `collect` stored of it, for distances, orbits or similarity."
        ),
    ] = None,
    analysis: Annotated[
        str,
        typer.Option(
            help="fixed_point, distances, per_block, attention, orbits, similarity, skip_iterations, spectrum, lyapunov, path_independence or find_fixed_points."
        ),
    ] = "fixed_point",
    n_iters: Annotated[
        int | None, typer.Option("--n-iters", "-r", min=1, help="Depth.  [16]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens read at once.  [the context, at most 512]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Full windows at once.")] = 8,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to read.  [all]")] = None,
    label: Annotated[str, typer.Option(help="Classes of tokens told apart.")] = "current_class",
    controls: Annotated[
        bool, typer.Option("--controls/--no-controls", help="Random weights and shuffled text too.")
    ] = True,
    seed: Annotated[int, typer.Option(help="Of controls, sample and bootstrap.")] = 0,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Device = None,
    dtype: Dtype = None,
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """Fold an analysis over texts: means with intervals, quantiles and token classes, trained beside controls."""
    from rich.console import Console

    from app.cli.collect import told_progress
    from probes.aggregation import (
        ANALYSES,
        AggregateConfig,
        DocumentSets,
        aggregate,
        aggregate_collected,
    )
    from probes.aggregation.config import VARIANTS

    if analysis not in ANALYSES:
        raise typer.BadParameter(f"known are {', '.join(ANALYSES)}", param_hint="'--analysis'")
    if bool(data) == bool(collected):
        raise typer.BadParameter("give either texts or a collection", param_hint="'--data'")
    if collected and (n_iters, window, max_tokens) != (None, None, None):
        raise typer.BadParameter(
            "depth, window and tokens are the collection's own", param_hint="'--collected'"
        )
    texts = _named(data or [])

    def config(text: str, folder: Path) -> AggregateConfig:
        return AggregateConfig(
            text, str(folder), 16 if n_iters is None else n_iters, window, batch_size,
            max_tokens=max_tokens, label=label, variants=VARIANTS if controls else ("trained",),
            seed=seed,
        )  # fmt: skip

    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        if collected:
            result: Any = aggregate_collected(
                loaded, collected, out, analysis, label=label, seed=seed, resume=resume,
                progress=lambda done, total: status.update(f"shard {done:,} of {total:,}"),
            )  # fmt: skip
        else:
            results = {
                name: aggregate(
                    loaded, config(text, out / name if len(texts) > 1 else out), ANALYSES[analysis],
                    resume=resume, on_progress=lambda now: status.update(told_progress(now)),
                )
                for name, text in texts.items()
            }  # fmt: skip
            result = DocumentSets.of(results) if len(results) > 1 else next(iter(results.values()))
        result.save(out / "report.html", overwrite=True)
        result.save(out / "table.parquet", overwrite=True)
    if json_output:
        rows: Any = json.loads(result.to_frame().to_json(orient="records"))
        typer.echo(json.dumps({"result": str(out), "rows": rows}))
        return
    typer.echo(f"{out}: report.html, table.parquet")
    for name, one in getattr(result, "sets", {"": result}).items():
        typer.echo(
            f"{name}{': ' if name else ''}{one.n_tokens:,} tokens of {one.n_documents:,} documents"
        )


def _named(data: list[str]) -> dict[str, str]:
    """Texts by name: NAME=TEXT, or the file's own name where there are several."""
    if len(data) == 1:
        found = _NAME.fullmatch(data[0])
        return {"": found[2] if found and not Path(data[0]).exists() else data[0]}
    texts: dict[str, str] = {}
    for given in data:
        found = None if Path(given).exists() else _NAME.fullmatch(given)
        name, text = (found[1], found[2]) if found else (Path(given).stem, given)
        if name in texts or not _PLAIN.fullmatch(name):
            raise typer.BadParameter(
                f"{given!r}: name it, NAME=TEXT, by letters, digits, - and _, each name once",
                param_hint="'--data'",
            )
        texts[name] = text
    return texts
