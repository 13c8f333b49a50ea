"""`abbie-lens retrofit`: a looped model cut out of a plain one; with --start, --stop and --data it is taught to loop."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.options import Json

_Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the new model, or of the run.  [runs/SOURCE-LOOP in the user's data]"
    ),
]


def command(
    source: Annotated[
        str, typer.Argument(help="Bundled or fetched name, folder or hub id of the plain model.")
    ],
    body: Annotated[
        str | None, typer.Option(help="Blocks to loop over, e.g. 10-17 or 4,5,6.")
    ] = None,
    out: _Out = None,
    head: Annotated[str, typer.Option(help="Blocks before the loop, e.g. 0-3.  [none]")] = "",
    tail: Annotated[str, typer.Option(help="Blocks after the loop.  [none]")] = "",
    n_iters: Annotated[
        int | None, typer.Option(help="Depth it is trained at.  [4, or 2 with --start]")
    ] = None,
    adapter: Annotated[
        str, typer.Option(help="How the adapter of state and input begins: sum, input or random.")
    ] = "sum",
    seed: Annotated[int, typer.Option(help="Of what is drawn.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a model saved there.")
    ] = False,
    start: Annotated[
        int | None, typer.Option(help="First block of the Body; all before are the Head.")
    ] = None,
    stop: Annotated[
        int | None, typer.Option(help="First block after the Body; it and all after are the Tail.")
    ] = None,
    loop: Annotated[
        str | None, typer.Option(help="Rule: abbie-d, repeat or steps.  [abbie-d]")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Text to learn to loop on.")] = None,
    heldout: Annotated[str | None, typer.Option(help="Text to be measured on.")] = None,
    train: Annotated[
        str | None,
        typer.Option(help="What is trained: adapters (of the Body) or body.  [adapters]"),
    ] = None,
    rank: Annotated[int | None, typer.Option(help="Of the adapters.  [16]")] = None,
    train_tokens: Annotated[int | None, typer.Option(help="Tokens to train on.  [500000]")] = None,
    n_ctx: Annotated[int | None, typer.Option(help="Tokens of a window.  [256]")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step.  [8]")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="[0.001]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32, or bfloat16 (fast on CPUs that have it).")
    ] = None,
    measured_windows: Annotated[
        int | None, typer.Option(help="Held-out windows measured before and after.  [210]")
    ] = None,
    control: Annotated[
        bool, typer.Option("--control", help="Teach the same adapters at r = 1 instead.")
    ] = False,
    tokens: Annotated[
        Path | None, typer.Option(help="Folder of encoded texts that runs share.  [in the run]")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write the document of the finished runs in the folder SOURCE, no more."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Cut a looped model out of a plain one; with --start, --stop, --data, --heldout teach it to loop, resumably."""
    if report is not None:
        from abbie_lens.conversion.report import write_report

        return typer.echo(str(write_report(Path(source), report)))
    if (body is None) == (start is None or stop is None):
        raise typer.BadParameter(
            "expected --body (to cut), or --start and --stop (to teach)", param_hint="'--body'"
        )
    if body is not None:
        if out is None:
            raise typer.BadParameter("expected a folder for the model", param_hint="'--out'")
        return _cut(
            source, head, body, tail, out, n_iters or 4, adapter, seed, overwrite, json_output
        )
    if data is None or heldout is None:
        raise typer.BadParameter(
            "expected a text to learn and one to measure on", param_hint="'--data'"
        )
    from abbie_lens.conversion.lesson import Lesson
    from abbie_lens.conversion.teach import teach
    from abbie_lens.paths import runs

    given = dict(
        loop=loop, train=train, rank=rank, n_iters=n_iters, train_tokens=train_tokens, n_ctx=n_ctx,
        batch_size=batch_size, learning_rate=learning_rate, precision=precision,
        measured_windows=measured_windows, micro_batch_size=_micro(batch_size),
    )  # fmt: skip
    settings: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    lesson = Lesson(source=source, start=start, stop=stop, control=control, seed=seed, **settings)  # type: ignore[arg-type]
    name = f"{Path(source).name}-{'control' if control else lesson.loop}"
    folder = teach(
        lesson, data, heldout, runs() / name if out is None else out,
        tokens=tokens, on_windows=_windows,
    )  # fmt: skip
    typer.echo(json.dumps({"run": str(folder)}) if json_output else str(folder))


def _micro(batch_size: int | None) -> int | None:
    """At most four windows at once: logits over a large vocabulary are the largest thing in memory."""
    if batch_size is None:
        return None
    return max(n for n in (1, 2, 3, 4) if batch_size % n == 0)


def _windows(done: int, total: int) -> None:
    if done == total or done % 40 == 0:
        print(f"measured {done} of {total} held-out windows", file=sys.stderr, flush=True)


def _cut(
    source: str, head: str, body: str, tail: str, out: Path, n_iters: int, adapter: str, seed: int,
    overwrite: bool, json_output: bool,
) -> None:  # fmt: skip
    chosen = {
        stage: _numbers(text, stage)
        for stage, text in (("head", head), ("body", body), ("tail", tail))
    }
    from abbie_lens import load
    from abbie_lens.conversion.retrofit import cut

    stages = (chosen["head"], chosen["body"], chosen["tail"])
    model = cut(load(source, "cpu"), *stages, n_iters=n_iters, adapter=adapter, seed=seed)
    folder = model.save_pretrained(out, overwrite=overwrite)
    info = model.info()
    if json_output:
        told = {"model": str(folder), "n_params": info.n_params, **chosen}
        typer.echo(json.dumps(told))
        return
    sizes = "-".join(str(len(numbers)) for numbers in chosen.values())
    typer.echo(f"{folder}\n{sizes} blocks, {info.n_params:,} parameters")


def _numbers(text: str, stage: str) -> list[int]:
    """Block numbers of "0-3,7"."""
    numbers: list[int] = []
    for part in filter(None, text.replace(" ", "").split(",")):
        found = re.fullmatch(r"(\d+)(?:-(\d+))?", part)
        if found is None:
            raise typer.BadParameter(
                f"{part!r}: expected block numbers such as 0-3,7", param_hint=f"'--{stage}'"
            )
        first = int(found[1])
        numbers += range(first, int(found[2] or first) + 1)
    return numbers
