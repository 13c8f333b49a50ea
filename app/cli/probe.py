"""`abbie-lens probe`: probes of a label, or of trees, at every site and iteration, with every baseline, in a folder."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json, Resume

if TYPE_CHECKING:
    from abbie_lens.collecting import CollectProgress


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    labels: Annotated[
        str,
        typer.Option(
            help="What to read: next_class, next_token, quote_depth, …; with --conllu upos, xpos, deprel, head_side, "
            "head_distance, tree_depth, or structural for the whole tree; with --task answer, steps; with --table the name of its column."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    data: Annotated[
        str | None,
        typer.Option(help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]].  [the bundled sample]"),
    ] = None,
    conllu: Annotated[
        list[Path] | None, typer.Option(help="Treebank in CoNLL-U (repeatable).")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(help="Table: .csv, .tsv, .parquet, or hf:ID[:CONFIG[:SPLIT]]."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help="text=NAME, start=NAME, end=NAME or document=NAME of the table (repeatable)."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Task of known depth: k-hop, dyck, …")] = None,
    piece: Annotated[
        str, typer.Option(help="Token of a word that has its label: last, first or all.")
    ] = "last",
    sites: Annotated[
        list[str] | None, typer.Option("--sites", help="Hook name (repeatable).  [loop.hook_state]")
    ] = None,
    n_iters: Annotated[int, typer.Option("--n-iters", "-r", min=1, help="Depth.")] = 8,
    max_tokens: Annotated[int, typer.Option(min=1, help="Tokens to read.")] = 10_000,
    window: Annotated[
        int | None, typer.Option(help="Tokens read at once.  [the context, at most 512]")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Full windows at once.")] = 8,
    seed: Annotated[int, typer.Option(help="Of documents, split and controls.")] = 0,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Device = None,
    dtype: Dtype = None,
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """Probe a label, with every baseline; a killed run goes on with --resume."""
    from app.cli import probe_labels

    asked = {
        "labels": labels, "data": data, "conllu": [str(path) for path in conllu or ()], "table": table,
        "columns": column or [], "task": task, "piece": piece,
    }  # fmt: skip
    if not resume and out.exists() and (out.is_file() or any(out.iterdir())):
        # Said before the model is read, not after.
        from abbie_lens.errors import ExistsError

        raise ExistsError(f"--out {str(out)!r} exists; choose another folder, or pass --resume")
    label = probe_labels.chosen(labels, model, asked, seed)
    texts = probe_labels.texts(asked, max_tokens)

    from rich.console import Console

    from probes import LinearProbes
    from probes.probe_folder import ProbeConfig, probe_folder
    from probes.readings import linear, structural

    config = ProbeConfig(
        str(out), tuple(dict.fromkeys(sites or ProbeConfig.sites)), n_iters, max_tokens, window, batch_size, seed
    )  # fmt: skip
    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        result = probe_folder(
            loaded, label, config, texts, asked=asked, resume=resume,
            on_collect=_collecting(status.update), progress=_fitting(status.update),
        )  # fmt: skip
    if json_output:
        rows: Any = json.loads(str(result.to_frame().to_json(orient="records")))
        typer.echo(json.dumps({"result": str(out), "rows": rows}))
        return
    if isinstance(result, LinearProbes):
        kept, says = "table.parquet, probes, result", linear.said(result)
    else:
        kept, says = "table.parquet, result", structural.said(result)
    typer.echo(f"{out}: figure.html, {kept} (abbie-lens app --bundle {out / 'result'})\n{says}")


def _collecting(say: Callable[[str], object]) -> Callable[[str, CollectProgress], object]:
    """How far the states of a model are."""
    from app.cli.collect import told_progress

    names = {"states": "the model's states", "untrained": "states of fresh weights"}
    return lambda name, now: say(f"{names[name]}: {told_progress(now)}")


def _fitting(say: Callable[[str], object]) -> Callable[[int, int], object]:
    """How far the fits are, and how long the rest takes at this speed."""
    began: list[tuple[float, int]] = []

    def told(done: int, total: int) -> None:
        now = time.monotonic()
        began[:] = began or [(now, done)]
        first, before = began[0]
        left = (
            f" · {(now - first) / (done - before) * (total - done):,.0f} s left"
            if done > before
            else ""
        )
        say(f"fitting: {done} of {total}{left}")

    return told
