"""`abbie-lens halting`: halting rules judged over a corpus, in constant memory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli import loops
from app.cli.loops import Rule, Start, Stop
from app.cli.options import Device, Dtype, Json, Resume


def command(
    model: Annotated[str, typer.Argument(help="Bundled name, folder or hub id.")],
    data: Annotated[
        str, typer.Option(help="Text: a file, a glob, or hf:ID[:CONFIG[:SPLIT]], streamed.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the result.")],
    halting_rules: Annotated[
        list[str] | None,
        typer.Option(
            "--halting-rule",
            "--rule",
            help="A rule to judge, or any:RULE,RULE or all:RULE,RULE; may be repeated.  [all that apply]",
        ),
    ] = None,
    threshold: Annotated[
        list[str] | None,
        typer.Option(help="RULE=VALUE: a rule's own threshold; may be repeated.  [its default]"),
    ] = None,
    mean_depth: Annotated[
        list[float] | None,
        typer.Option(
            help="A target mean depth for thresholds; may be repeated, in place of --points."
        ),
    ] = None,
    counted: Annotated[
        str, typer.Option(help="Tokens that count: all, or the answers of the model's task.")
    ] = "all",
    calibrate: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Certify thresholds on half of the documents: at most this share of tokens differs from full depth.",
        ),
    ] = None,
    delta: Annotated[
        float, typer.Option(help="Probability with which --calibrate may miss its share.")
    ] = 0.1,
    fit_exit_probe: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Fit an exit probe on this text, another than --data; keep it in the folder and judge it.",
        ),
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
    device: Device = None,
    dtype: Dtype = None,
    resume: Resume = False,
    json_output: Json = False,
) -> None:
    """When may tokens stop: every rule at several depths, beside one depth for all, random exits and an oracle."""
    from rich.console import Console

    from abbie_lens.errors import InputError
    from abbie_lens.halting import ExitProbe, rules_for
    from app.cli.collect import told_progress
    from app.cli.halting_rules import policies
    from app.trained import own_task
    from probes import bundle
    from probes.early_exit.fit_probe import fit_exit_probe as fit
    from probes.early_exit.fit_probe import some_documents
    from probes.early_exit.risk import check_target, control_risk
    from probes.early_exit.study import study
    from probes.early_exit.study_config import StudyConfig

    if calibrate is not None:
        check_target(calibrate, delta)
    if exit_probe is not None and fit_exit_probe is not None:
        raise InputError("exit_probe: give --exit-probe or --fit-exit-probe, not both.")
    if fit_exit_probe == data:
        raise InputError(
            f"fit_exit_probe={data!r}: the text that is judged; a probe needs another to be fitted on."
        )
    with Console(stderr=True).status("loading the model") as status:
        loaded = loops.load(model, start, stop, loop, device=device, dtype=dtype)
        config = StudyConfig(
            data, str(out), loaded.depth(n_iters), window, batch_size, max_tokens=max_tokens,
            label=label, points=points, seed=seed, mean_depths=tuple(mean_depth or ()), counted=counted,
        )  # fmt: skip
        names = halting_rules or [n for n in rules_for(loaded) if n != "fixed_k"]
        rules: list[Any] = policies(names, threshold or ())
        found: dict[str, Any] = {}
        if exit_probe is not None:
            rules.append(ExitProbe.load(exit_probe))
        if fit_exit_probe is not None:
            status.update("fitting the exit probe")
            fitted = fit(loaded, some_documents(fit_exit_probe), config.n_iters, seed=seed)
            found["exit_probe"] = fitted
            rules.append(fitted.policy())
        result = study(
            loaded, config, rules=rules, timed=timed, kv=kv, resume=resume,
            task=own_task(model) if counted == "answers" else None,
            on_progress=lambda now: status.update(told_progress(now)),
        )  # fmt: skip
        if calibrate is not None:
            status.update("calibrating")
            for name in result.names[:-1]:
                found[f"risk_{name}"] = control_risk(
                    out, name, target=calibrate, delta=delta, seed=seed
                )
        if "exit_probe" in found:
            found["exit_probe"].policy().save(out / "exit_probe.safetensors")
        certified = [one.row() for name, one in found.items() if name.startswith("risk_")]
        if certified:
            (out / "certified.json").write_text(json.dumps(certified, indent=1))
        bundle.save(
            {"halting_study": result, **found}, out / "bundle", settings=config.settled(), overwrite=True
        )  # fmt: skip
    if json_output:
        rows: Any = json.loads(result.to_frame().to_json(orient="records"))
        typer.echo(json.dumps({"result": str(out), "rows": rows, "certified": certified}))
        return
    typer.echo(
        f"{out}: bundle/report.html, table.parquet; on a page: abbie-lens app --bundle {out / 'bundle'}\n{result.n_tokens:,} tokens of {result.n_documents:,} documents"
    )
    middle = (1 + result.n_iters) / 2
    for name in result.names[:-1]:
        typer.echo(result.verdict(name, result.point_at(name, middle)))
    for name, one in found.items():
        if name.startswith("risk_"):
            typer.echo(one.sentence())
    if "exit_probe" in found:
        typer.echo(found["exit_probe"].sentence())
