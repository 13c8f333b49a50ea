"""`abbie-lens dynamics`: an analysis of the loop over a corpus, in constant memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    data: Annotated[
        str, typer.Option(help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]], streamed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    analysis: Annotated[
        str,
        typer.Option(
            help="fixed_point, distances, per_block, attention, orbits, similarity, skip_iterations, spectrum, lyapunov, path_independence or find_fixed_points."
        ),
    ] = "fixed_point",
    n_iters: Annotated[int, typer.Option("--n-iters", "-r", min=1, help="Depth.")] = 16,
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
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.  [the best here]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, …  [as stored]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a run that was stopped.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON on stdout.")
    ] = False,
) -> None:
    """Fold an analysis over a text: means with intervals, quantiles and token classes, trained beside controls."""
    from rich.console import Console

    from app.cli.collect import told_progress
    from probes.aggregation import ANALYSES, AggregateConfig, aggregate
    from probes.aggregation.config import VARIANTS

    if analysis not in ANALYSES:
        raise typer.BadParameter(f"known are {', '.join(ANALYSES)}", param_hint="'--analysis'")
    config = AggregateConfig(
        data, str(out), n_iters, window, batch_size, max_tokens=max_tokens, label=label,
        variants=VARIANTS if controls else ("trained",), seed=seed,
    )  # fmt: skip
    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        result = aggregate(
            loaded, config, ANALYSES[analysis], resume=resume,
            on_progress=lambda now: status.update(told_progress(now)),
        )  # fmt: skip
        result.save(out / "report.html", overwrite=True)
    if json_output:
        rows: Any = json.loads(result.to_frame().to_json(orient="records"))
        typer.echo(json.dumps({"result": str(out), "rows": rows}))
        return
    typer.echo(
        f"{out}: report.html, table.parquet\n{result.n_tokens:,} tokens of {result.n_documents:,} documents"
    )
