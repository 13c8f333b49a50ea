"""`abbie-lens inspect`: what a model is and what memory it needs, before any weight is read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Json

if TYPE_CHECKING:
    from abbie_lens.files.inspect import Inspection


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    n_iters: Annotated[
        int | None, typer.Option("--n-iters", "-r", help="Depth of a run.  [the trained one]")
    ] = None,
    n_ctx: Annotated[
        int | None, typer.Option(help="Tokens of a run.  [the model's context]")
    ] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision to load in.  [the model's]")] = None,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device_map: Annotated[
        str | None, typer.Option(help="auto spreads the blocks over all devices, or a device.")
    ] = None,
    offload_folder: Annotated[
        Path | None, typer.Option(help="Where blocks are kept that no device has room for.")
    ] = None,
    sites: Annotated[bool, typer.Option("--sites", help="List every site.")] = False,
    json_output: Json = False,
) -> None:
    """Print a model's format, split, depth, gate, tokenizer, sites, and the memory that it needs."""
    from abbie_lens.files.inspect import inspect
    from abbie_lens.files.memory_plan import Where

    where = Where(device_map=device_map, offload_folder=offload_folder)
    asked = loops.chosen(model, start, stop, loop)
    seen = inspect(model, n_iters=n_iters, n_ctx=n_ctx, dtype=dtype, loop=asked, where=where)
    if json_output:
        typer.echo(json.dumps(_plain(seen)))
        return
    cfg = seen.cfg
    lines = {
        "format": seen.format,
        "loop": f"{cfg.loop.label}, trained at r = {cfg.n_iters} {cfg.loop.counts}",
        "blocks": f"Head {cfg.n_head_blocks}, Body {cfg.n_body_blocks}, Tail {cfg.n_tail_blocks}",
        "width": f"{cfg.d_model}, {cfg.n_heads} x {cfg.head_width} heads ({cfg.kv_heads} of keys), MLP {cfg.mlp_width}",
        "gate": "learned" if seen.gate else "none",
        "tokenizer": "none, token ids only"
        if seen.tokenizer is None
        else f"{seen.tokenizer} tokens",
        "vocabulary": f"{cfg.d_vocab}, context {cfg.n_ctx}",
        "parameters": f"{seen.n_params:,}",
        **seen.memory.lines(),
    }
    typer.echo(seen.name)
    for name, said in lines.items():
        typer.echo(f"  {name:<22} {said}")
    typer.echo(f"  {'sites':<22} {len(seen.sites)}" + ("" if sites else ", --sites lists them"))
    for site, rows, shape in seen.sites if sites else ():
        typer.echo(f"    {site:<40} {f'{rows} x ' if rows else ''}{list(shape)}")


def _plain(seen: Inspection) -> dict[str, object]:
    sites = {name: {"rows": rows, "shape": list(shape)} for name, rows, shape in seen.sites}
    shown = ("cfg", "sites", "memory")
    return {
        **{name: value for name, value in vars(seen).items() if name not in shown},
        "load_bytes": seen.memory.load_bytes,
        "memory": seen.memory.to_dict(),
        "config": seen.cfg.to_dict(),
        "sites": sites,
    }
