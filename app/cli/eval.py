"""`abbie-lens eval`: lm-eval's benchmarks at several depths of one model."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json

if TYPE_CHECKING:
    from probes import EvalScores

SECONDS_BETWEEN_LINES = 30.0


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    tasks: Annotated[str, typer.Option(help="Names of lm-eval, or of --include-path: a,b.")],
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    n_iters: Annotated[str, typer.Option(help="Depths r, in any order: 1,2,4,8.")] = "1,2,4,8",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Documents of each task, the first ones.  [all]")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Requests at once.")] = 16,
    include_path: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="Folder of task files (YAML) of your own; trusted."
        ),
    ] = None,
    device: Device = None,
    dtype: Dtype = None,
    seed: Annotated[int, typer.Option(help="Of intervals, few-shot examples, sampling.")] = 0,
    out: Annotated[
        Path | None, typer.Option(dir_okay=False, help="JSON file, written after each depth.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Skip the depths that --out holds.")
    ] = False,
    figure: Annotated[
        Path | None, typer.Option(dir_okay=False, help="HTML file for the figure.")
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="Run metric scripts of the hub and programs the model writes."
        ),
    ] = False,
    json_output: Json = False,
) -> None:
    """Score a model on tasks after r iterations, for several r (needs the extra: abbie-lens[eval])."""
    depths = _depths(n_iters)
    names = [name for name in map(str.strip, tasks.split(",")) if name]
    if resume and out is None:
        raise typer.BadParameter("name the file to continue in --out", param_hint="'--resume'")

    from abbie_lens.errors import ExistsError, InputError
    from abbie_lens.evaluation import extra
    from probes.evaluation import check_out

    extra.require()
    if figure is not None and figure.suffix.lower() != ".html":
        raise InputError(f"--figure {str(figure)!r}: expected a name that ends in .html")
    # Said before the model is read, not after hours.
    check_out(out, resume)
    if figure is not None and figure.exists():
        raise ExistsError(f"--figure {str(figure)!r} exists; choose another file")

    from rich.console import Console

    import probes
    from app.cli import loops

    # Tasks may print; stdout is for the scores.
    console = Console(stderr=True)
    with console.status("loading the model") as status, redirect_stdout(sys.stderr):
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        status.update("loading the tasks")
        result = probes.eval_scores(
            loaded, names, depths, include_path=include_path, limit=limit, batch_size=batch_size,
            seed=seed, allow_code=allow_code, out=out, resume=resume,
            progress=_teller(status.update if console.is_terminal else None),
        )  # fmt: skip
    if figure is not None:
        result.save(figure)
    if json_output:
        typer.echo(json.dumps(_plain(result)))
    else:
        _print(result)


def _depths(text: str) -> list[int]:
    try:
        depths = [int(part) for part in text.split(",")]
    except ValueError:
        depths = []
    if not depths or min(depths) < 0:
        raise typer.BadParameter(
            f"{text!r}: expected whole numbers >= 0, as in 1,2,4,8", param_hint="'--n-iters'"
        )
    return depths


def _teller(update: Callable[[str], object] | None) -> Callable[[int, int, int], None]:
    """Progress for the status line of a terminal; elsewhere (logs) a line every half minute."""
    last = -math.inf

    def tell(r: int, done: int, total: int) -> None:
        nonlocal last
        text = f"r = {r}: {done} of {total} requests"
        if update is not None:
            update(text)
        elif done == total or time.monotonic() - last > SECONDS_BETWEEN_LINES:
            last = time.monotonic()
            typer.echo(text, err=True)

    return tell


def _plain(result: EvalScores) -> dict[str, Any]:
    by_depth = zip(
        result.depths.tolist(), result.undefined, result.n_truncated.tolist(),
        result.n_requests.tolist(), strict=True,
    )  # fmt: skip
    return {
        "model": result.model.to_dict(),
        "confidence": result.confidence,
        "scores": json.loads(str(result.to_frame().to_json(orient="records", double_precision=15))),
        "depths": [
            {"n_iters": r, "undefined": why, "n_truncated": cut, "n_requests": n}
            for r, why, cut, n in by_depth
        ],
    }


def _print(result: EvalScores) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from probes.figures.evaluation import interval_methods

    table = Table(box=box.SIMPLE_HEAD)
    for name in ("task", "metric"):
        table.add_column(name, no_wrap=True)
    for name in ("documents", "chance", *(f"r={r}" for r in result.depths)):
        table.add_column(name, justify="right", no_wrap=True)
    for i, (task, metric) in enumerate(zip(result.tasks, result.metrics, strict=True)):
        arrow = "↑" if result.higher_is_better[i] else "↓"
        filtered = "" if result.filters[i] == "none" else f" ({result.filters[i]})"
        cells = zip(result.value[i], result.low[i], result.high[i], strict=True)
        table.add_row(
            # Text: names in task files are not markup.
            Text(("  " if result.part_of[i] else "") + task),
            Text(f"{metric}{filtered} {arrow}"),
            str(result.n_documents[i]),
            _number(result.chance[i]),
            *(_cell(*cell) for cell in cells),
        )
    # Not cut to the width of a pipe, where no one would see that columns are missing.
    console, endless = Console(), Console(width=10_000)
    width = None if console.is_terminal else endless.measure(table).maximum
    Console(width=width).print(table)
    every = range(len(result.tasks))
    typer.echo(f"[low, high]: {result.confidence:.0%} interval; {interval_methods(result, every)}.")
    for r, why, cut, n in zip(
        result.depths, result.undefined, result.n_truncated, result.n_requests, strict=True
    ):
        if why:
            typer.echo(f"r={r}: not defined. {why}")
        elif cut:
            typer.echo(f"r={r}: {cut} of {n} prompts lost their beginning to the model's context.")


def _number(value: float) -> str:
    if not math.isfinite(value):
        return ""
    return f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"


def _cell(value: float, low: float, high: float) -> Any:
    from rich.text import Text

    if not math.isfinite(value):
        return "–"
    interval = f"\n[{_number(low)}, {_number(high)}]" if math.isfinite(low) else ""
    return Text(_number(value) + interval)
