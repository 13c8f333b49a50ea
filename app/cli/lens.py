"""`abbie-lens lens tuned | jacobian`: the lenses that are made of a text, before `probes.lens` and the page Lens can use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json, Resume

if TYPE_CHECKING:
    from probes.lenses import FittedLens, JacobianConfig, TunedConfig
    from probes.lenses.rows import Blocks

    Callback = Callable[[int, int], object]

Model = Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")]
Data = Annotated[
    str, typer.Option(help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]], streamed.")
]
Out = Annotated[
    Path | None,
    typer.Option(help="Folder of the lens.  [the user's data folder, where it is found again]"),
]
NIters = Annotated[int, typer.Option("--n-iters", "-r", min=1, help="Depth it leads to.")]
BlockRows = Annotated[str, typer.Option(help="Rows for blocks too: none, body or all.")]
Store = Annotated[str, typer.Option(help="Store the matrices in float32, bfloat16 or float16.")]

lens = typer.Typer(
    help="Make the tuned or the Jacobian lens of a model.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@lens.command("tuned")
def tuned(
    model: Model,
    data: Data,
    out: Out = None,
    n_iters: NIters = 16,
    blocks: BlockRows = "none",
    steps: Annotated[int, typer.Option(help="Steps of Adam.")] = 250,
    batch_size: Annotated[int, typer.Option(help="Windows a step.")] = 2,
    window: Annotated[
        int | None, typer.Option(help="Tokens read at once.  [the context, at most 512]")
    ] = None,
    learning_rate: Annotated[float, typer.Option(help="At its highest.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of the order of the text.")] = 0,
    test: Annotated[
        str | None, typer.Option(help="Another text, to measure the finished lens on.")
    ] = None,
    test_tokens: Annotated[int, typer.Option(help="Tokens of it.")] = 16384,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Store = "float32",
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """Train z + A z + b, for every iteration, towards the model's own final prediction; whole documents are held out."""
    from probes.lenses import TunedConfig, train_tuned
    from probes.lenses.tuned import measure_tuned

    config = TunedConfig(
        n_iters, _blocks(blocks), steps, batch_size, window, learning_rate, seed=seed
    )

    def make(loaded: Any, folder: Path, progress: Callback) -> FittedLens:
        made = train_tuned(loaded, data, config, out=folder, resume=resume, progress=progress)
        if test is None:
            return made
        measured = measure_tuned(loaded, made, test, test_tokens)
        return replace(made, metrics=made.metrics | {"test": measured})

    where = (start, stop, loop, device, dtype)
    _run("tuned", model, where, out, config, store, make, json_output)


@lens.command("jacobian")
def jacobian(
    model: Model,
    data: Data,
    out: Out = None,
    n_iters: NIters = 16,
    blocks: BlockRows = "none",
    n_texts: Annotated[int, typer.Option("--texts", help="Texts to average over.")] = 32,
    window: Annotated[int, typer.Option(help="Tokens of a text.")] = 128,
    batch_size: Annotated[int, typer.Option(help="Texts at once.")] = 8,
    skip_first: Annotated[int, typer.Option(help="Positions left out at the beginning.")] = 16,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Device = None,
    dtype: Dtype = None,
    store: Store = "float32",
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """Average, over texts, the derivative of what the final norm reads to the state of every iteration."""
    from probes.lenses import JacobianConfig, fit_jacobian

    config = JacobianConfig(n_iters, _blocks(blocks), n_texts, window, batch_size, skip_first)

    def make(loaded: Any, folder: Path, progress: Callback) -> FittedLens:
        return fit_jacobian(loaded, data, config, out=folder, resume=resume, progress=progress)

    where = (start, stop, loop, device, dtype)
    _run("jacobian", model, where, out, config, store, make, json_output)


def _run(
    kind: str,
    model: str,
    where: tuple[Any, ...],
    out: Path | None,
    config: TunedConfig | JacobianConfig,
    store: str,
    make: Callable[[Any, Path, Callback], FittedLens],
    json_output: bool,
) -> None:
    """Load, make, store and tell."""
    import torch
    from rich.console import Console

    from probes.lenses.places import home

    stores = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if store not in stores:
        raise typer.BadParameter(f"expected one of {', '.join(stores)}", param_hint="'--store'")
    *window, device, dtype = where
    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, *window, device=device, dtype=dtype)
        folder = out or home(loaded, kind, config.n_iters, config.blocks)
        made = make(loaded, folder, lambda n, total: status.update(f"{n:,} of {total:,} steps"))
        made.save(folder, dtype=stores[store], overwrite=True)
    if json_output:
        told = {
            "lens": str(folder),
            "kind": kind,
            "settings": made.settings,
            "metrics": made.metrics,
        }
        typer.echo(json.dumps(told))
        return
    typer.echo(f"{folder}\n{made.story}.")
    if kl := made.metrics.get("held_out", {}).get("kl"):
        typer.echo("held-out KL to the final prediction (nats):")
        for row, values in enumerate(zip(*kl.values(), strict=True)):
            cells = "  ".join(f"{name} {value:.3f}" for name, value in zip(kl, values, strict=True))
            typer.echo(f"  {made.addresses[row]:<32}{cells}")


def _blocks(name: str) -> Blocks:
    known: dict[str, Blocks] = {"none": False, "body": True, "all": "all"}
    if name not in known:
        raise typer.BadParameter(f"expected one of {', '.join(known)}", param_hint="'--blocks'")
    return known[name]
