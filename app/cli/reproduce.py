"""`abbie-lens reproduce`: train every family alike, measure, and write the document."""

from __future__ import annotations

import json
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli.options import Json

if TYPE_CHECKING:
    from probes.reproduction import ReproduceConfig, Stage

_SECONDS_BETWEEN_LINES = 30.0


def command(
    config: Annotated[
        str | None,
        typer.Argument(
            help="novels, wider, quick, 350m, or a JSON file.  [novels]", show_default=False
        ),
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="Some of the families, separated by commas.  [all]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the runs.  [runs/NAME in the user's data folder]"),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Text or token file to train on.  [the comparison's]")
    ] = None,
    heldout: Annotated[
        str | None, typer.Option(help="Held-out text or token file.  [the comparison's]")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="30 steps a family on the bundled sample of text.")
    ] = False,
    measure_only: Annotated[
        bool, typer.Option("--measure-only", help="Train nothing; measure what is trained.")
    ] = False,
    document_only: Annotated[
        bool, typer.Option("--document-only", help="Write the document from stored metrics.")
    ] = False,
    document: Annotated[
        Path | None, typer.Option(help="Where the document goes.  [OUT/reproduction.md]")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Only say what it would cost on a GPU.")
    ] = False,
    gpu: Annotated[str, typer.Option(help="For --plan.")] = "h100",
    utilisation: Annotated[
        float, typer.Option(help="For --plan: share of the GPU's peak that training reaches.")
    ] = 0.35,
    json_output: Json = False,
) -> None:
    """Train every loop family alike, measure them, and judge the papers' claims; resumes where it stopped."""
    if quick and config not in (None, "quick"):
        raise typer.BadParameter(f"--quick is the comparison `quick`, not {config}")

    from abbie_lens import paths
    from probes.reproduction import Metrics, ReproduceConfig, reproduce
    from probes.reproduction import document as documents

    comparison = ReproduceConfig.load(config or ("quick" if quick else "novels"))
    changes = {k: v for k, v in (("data", data), ("heldout", heldout)) if v is not None}
    if data is not None and heldout is None:
        changes["heldout"] = None
    comparison = comparison.replace(**changes)
    if families is not None:
        comparison = comparison.only([name.strip() for name in families.split(",")])
    if plan:
        _print_plan(comparison, gpu, utilisation, json_output)
        return
    folder = out or paths.runs() / comparison.name
    path = document or folder / "reproduction.md"
    if document_only:
        stored = Metrics(folder / "metrics")
        if document is not None and not stored.path(".", "config").is_file():
            stored = Metrics(document.with_suffix("") / "metrics")
    else:
        with _Progress() as progress:
            stored = reproduce(comparison, folder, progress, train_missing=not measure_only)
    _tell(documents.write(stored, path), stored, json_output)


def _tell(path: Path, stored: Any, json_output: bool) -> None:
    from dataclasses import asdict

    from probes.reproduction.claims import judge
    from probes.reproduction.store import plain

    rows = judge(stored)
    if json_output:
        told = {"document": str(path), "claims": [plain(asdict(row)) for row in rows]}
        typer.echo(json.dumps(told))
        return
    counted: dict[str, int] = {}
    for row in rows:
        counted[row.verdict] = counted.get(row.verdict, 0) + 1
    typer.echo(f"{path}\nclaims: " + ", ".join(f"{n} {v}" for v, n in counted.items()))


def _print_plan(
    comparison: ReproduceConfig, gpu: str, utilisation: float, json_output: bool
) -> None:
    from dataclasses import asdict

    from rich import box
    from rich.console import Console
    from rich.table import Table

    from probes.reproduction.plan import PEAKS, plan

    rows = plan(comparison, gpu, utilisation)
    if json_output:
        assumed = {"gpu": gpu, "peak_flops": PEAKS[gpu], "utilisation": utilisation}
        typer.echo(json.dumps({**assumed, "families": [asdict(row) for row in rows]}))
        return
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("family", no_wrap=True)
    for name in ("parameters", "tokens", "GFLOPs/token", "training FLOPs", "memory", "hours"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(
            row.family,
            f"{row.n_params / 1e6:.1f}M",
            f"{row.tokens / 1e6:,.0f}M",
            f"{row.forward_flops / 1e9:.3f}",
            f"{row.training_flops:.2e}",
            f"{row.memory_bytes / 2**30:.1f} GiB",
            f"{row.hours:.2f}",
        )
    console = Console()
    Console(width=None if console.is_terminal else 200).print(table)
    total = sum(row.hours for row in rows)
    typer.echo(
        f"{total:.1f} hours in all on one {gpu}: {PEAKS[gpu] / 1e12:g} TFLOP/s dense bfloat16 at "
        f"{utilisation:.0%} utilisation (assumed: --utilisation). Memory: weights, gradients, AdamW and one "
        "micro-batch's activations; buffers of kernels come on top."
    )


class _Progress(AbstractContextManager):
    """A rich bar on a terminal; elsewhere a line a stage, and one every half minute within it."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        console = Console(stderr=True)
        self._bar, self._last, self._stage = None, 0.0, 0
        if console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed}/{task.total}"),
                console=console,
            )
            self._bar.start()
            self._task = self._bar.add_task("", total=None)

    def __call__(self, now: Stage) -> None:
        loss = "" if now.loss != now.loss else f" · loss {now.loss:.3f}"
        text = f"{now.number}/{now.n_stages} · {now.family} · {now.what}{loss}"
        if self._bar is not None:
            self._bar.update(self._task, description=text, total=now.total, completed=now.done)
        elif now.number != self._stage or time.monotonic() - self._last > _SECONDS_BETWEEN_LINES:
            self._stage, self._last = now.number, time.monotonic()
            print(f"{text} · {now.done}/{now.total}", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
