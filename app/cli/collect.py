"""`abbie-lens collect`: chosen sites of a model over a corpus, into shards on disk."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Json, Resume

if TYPE_CHECKING:
    from abbie_lens.collecting import CollectProgress


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    data: Annotated[
        str, typer.Option(help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]], streamed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the collection.")],
    sites: Annotated[
        list[str] | None,
        typer.Option("--site", help="NAME, NAME@3 or NAME@2:5 (repeatable).  [loop.hook_state]"),
    ] = None,
    n_iters: Annotated[int | None, typer.Option(help="Depth.  [the trained one]")] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens read at once.  [the context, at most 512]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Full windows at once.")] = 8,
    shard_tokens: Annotated[int, typer.Option(help="Tokens read for one shard.")] = 1 << 15,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to read.  [all]")] = None,
    share: Annotated[float, typer.Option(help="Share of the tokens to keep.")] = 1.0,
    store: Annotated[str, typer.Option(help="Store float16, bfloat16 or float32.")] = "float16",
    seed: Annotated[int, typer.Option(help="Of the tokens kept and of a drawn state.")] = 0,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Device = None,
    dtype: Annotated[
        str | None, typer.Option(help="Run in float32, bfloat16, …  [as stored]")
    ] = None,
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """Run a model over text and store sites by token and iteration; a killed run goes on with --resume."""
    from rich.console import Console

    from abbie_lens.collecting import CollectConfig, collect

    config = CollectConfig(
        data, str(out), tuple(sites or CollectConfig.sites), n_iters, window, batch_size,
        shard_tokens, max_tokens, share, store, seed,
    )  # fmt: skip
    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        made = collect(
            loaded, config, resume=resume, on_progress=lambda now: status.update(told_progress(now))
        )
    told = {
        "collection": str(made.folder),
        **{name: made.manifest[name] for name in ("n_shards", "n_tokens", "n_documents", "rows")},
        "bytes": sum(path.stat().st_size for path in made.folder.iterdir()),
    }
    if json_output:
        typer.echo(json.dumps(told))
        return
    typer.echo(
        f"{told['collection']}\n{told['n_tokens']:,} tokens of {told['n_documents']:,} documents read, "
        f"{told['n_shards']:,} shards, {told['bytes'] / 2**20:,.1f} MiB"
    )


def told_progress(now: CollectProgress) -> str:
    """How far it is, in a line."""
    parts = [f"{now.n_tokens:,} tokens", f"{now.tokens_per_second:,.0f} tokens/s"]
    if not math.isnan(now.share):
        parts.append(f"{now.share:.0%}")
    if not math.isnan(now.eta_seconds):
        parts.append(f"{now.eta_seconds:,.0f} s left")
    if now.bytes_forecast > 0:
        parts.append(f"{now.bytes_forecast / 2**20:,.0f} MiB in the end")
    return " · ".join(parts)
