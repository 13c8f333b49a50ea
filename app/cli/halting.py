"""`abbie-lens halting`: halting rules judged over a corpus, in constant memory."""

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
    halting_rules: Annotated[
        list[str] | None,
        typer.Option("--halting-rule", help="A rule to judge; may be repeated.  [all that apply]"),
    ] = None,
    exit_probe: Annotated[
        Path | None,
        typer.Option(help="A fitted exit probe to judge as well (probes.fit_exit_probe)."),
    ] = None,
    n_iters: Annotated[
        int | None, typer.Option("--n-iters", "-r", min=1, help="Full depth.  [the trained one]")
    ] = None,
    window: Annotated[
        int | None, typer.Option(help="Tokens read at once.  [the context, at most 512]")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Full windows at once.")] = 8,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens to read.  [all]")] = None,
    label: Annotated[str, typer.Option(help="Classes of tokens told apart.")] = "current_class",
    points: Annotated[int, typer.Option(help="Target mean depths of a rule, from 1 to r.")] = 8,
    timed: Annotated[
        bool, typer.Option("--timed/--not-timed", help="Measure milliseconds of live runs too.")
    ] = False,
    kv: Annotated[str, typer.Option(help="Keys that halted tokens serve in timed runs.")] = "reuse",
    seed: Annotated[int, typer.Option(help="Of the sample and the bootstrap.")] = 0,
    start: Start = None,
    stop: Stop = None,
    loop: Rule = None,
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.  [the best here]")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32, bfloat16, …  [as stored]")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a study that was stopped.")
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the table as JSON on stdout.")
    ] = False,
) -> None:
    """When may tokens stop: every rule at several depths, beside one depth for all, random exits and an oracle."""
    from rich.console import Console

    from abbie_lens.halting import ExitProbe, rules_for
    from app.cli.collect import told_progress
    from probes.early_exit.study import study
    from probes.early_exit.study_config import StudyConfig

    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        config = StudyConfig(
            data, str(out), loaded.depth(n_iters), window, batch_size, max_tokens=max_tokens,
            label=label, points=points, seed=seed,
        )  # fmt: skip
        rules: list[Any] = halting_rules or [n for n in rules_for(loaded) if n != "fixed_k"]
        if exit_probe is not None:
            rules.append(ExitProbe.load(exit_probe))
        result = study(
            loaded, config, rules=rules, timed=timed, kv=kv, resume=resume,
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
    middle = (1 + result.n_iters) / 2
    for name in result.names[:-1]:
        typer.echo(result.verdict(name, result.point_at(name, middle)))
