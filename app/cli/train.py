"""`abbie-lens train`: a training run from the command line, one process or many (torchrun)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from app.cli.options import Device, Json
from app.cli.train_settings import settings_of

_Data = Annotated[
    str | None, typer.Option(help="Text: a file, a glob, hf:ID[:CONFIG[:SPLIT]]; or a token file.")
]
_Loop = Annotated[
    str | None, typer.Option(help="Loop family; `abbie-lens models --loops` lists them.  [abbie-d]")
]
_Settings = Annotated[str | None, typer.Option(metavar="JSON", help="Settings of the loop family.")]
_Config = Annotated[
    Path | None,
    typer.Option(exists=True, dir_okay=False, help="TrainConfig as JSON; options here outrank it."),
]


def command(
    data: _Data = None,
    loop: _Loop = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run.  [runs/LOOP in the user's data folder]")
    ] = None,
    config: _Config = None,
    loop_settings: _Settings = None,
    task: Annotated[
        str | None, typer.Option(help="A task of known depth in place of --data, e.g. k-hop.")
    ] = None,
    task_settings: Annotated[
        str | None, typer.Option(metavar="JSON", help="Settings of the task.")
    ] = None,
    heldout: Annotated[
        str | None, typer.Option(help="Held-out text.  [the last hundredth of --data]")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="tokenizer.json, folder or hub id.  [trained on --data]")
    ] = None,
    vocab_size: Annotated[
        int | None, typer.Option(help="Of a tokenizer trained here.  [4096]")
    ] = None,
    init_from: Annotated[
        str | None,
        typer.Option(help="Bundled name, folder or hub id of a model to start from, in its shape."),
    ] = None,
    d_model: Annotated[int | None, typer.Option(help="Width.  [192]")] = None,
    n_heads: Annotated[int | None, typer.Option(help="Attention heads.  [6]")] = None,
    d_mlp: Annotated[int | None, typer.Option(help="MLP width.  [8/3 of the width]")] = None,
    n_ctx: Annotated[int | None, typer.Option(help="Tokens of context.  [256]")] = None,
    n_head_blocks: Annotated[int | None, typer.Option(help="Blocks of the Head.  [1]")] = None,
    n_body_blocks: Annotated[int | None, typer.Option(help="Blocks of the Body.  [2]")] = None,
    n_tail_blocks: Annotated[int | None, typer.Option(help="Blocks of the Tail.  [1]")] = None,
    n_iters: Annotated[
        int | None, typer.Option(help="Iterations in training; their mean where they are drawn.")
    ] = None,
    loss: Annotated[
        str | None,
        typer.Option(help="Trained read-outs: end, step, few, random or exit.  [the family's]"),
    ] = None,
    stage: Annotated[
        str | None, typer.Option(help="joint, or gate: a learned gate alone.  [the family's]")
    ] = None,
    n_supervised: Annotated[
        int | None, typer.Option(help="Read-outs that loss random draws every step.  [5]")
    ] = None,
    depth: Annotated[
        str | None,
        typer.Option(
            help="fixed, uniform, lognormal_poisson, curriculum or poisson_per_sequence.  [the family's]"
        ),
    ] = None,
    depth_spread: Annotated[
        int | None, typer.Option(help="How far from n-iters depth uniform draws.  [1]")
    ] = None,
    curriculum: Annotated[
        str | None, typer.Option(help="How a curriculum's mean depth rises: linear or 1-sqrt.")
    ] = None,
    backprop_depth: Annotated[
        int | None, typer.Option(help="Last iterations that carry gradient.  [the family's]")
    ] = None,
    window: Annotated[
        int | None,
        typer.Option(help="Iterations between cuts of the gradient.  [the family's]"),
    ] = None,
    jacobian_weight: Annotated[
        float | None, typer.Option(help="Weight of the STARS Jacobian penalty.  [0]")
    ] = None,
    train_tokens: Annotated[
        int | None, typer.Option(help="Tokens to train on.  [15 million]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Windows a step.  [32]")] = None,
    micro_batch_size: Annotated[
        int | None, typer.Option(help="Windows at once in one process.  [its whole share]")
    ] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak.  [0.001]")] = None,
    weight_decay: Annotated[float | None, typer.Option(help="Of AdamW.  [0.1]")] = None,
    warmup_steps: Annotated[int | None, typer.Option(help="Steps.  [100]")] = None,
    decay_fraction: Annotated[float | None, typer.Option(help="Share of steps.  [0.2]")] = None,
    grad_clip: Annotated[float | None, typer.Option(help="Largest gradient norm.  [1.0]")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and data order.  [0]")] = None,
    precision: Annotated[
        str | None, typer.Option(help="auto, float32 or bfloat16.  [auto]")
    ] = None,
    device: Device = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads.  [torch's choice]")] = None,
    log_every: Annotated[int | None, typer.Option(help="Steps between log lines.  [10]")] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Steps between evaluations.  [250]")
    ] = None,
    checkpoint_every: Annotated[
        int | None, typer.Option(help="Steps between checkpoints.  [250]")
    ] = None,
    trackers: Annotated[
        list[str] | None, typer.Option("--tracker", help="tensorboard or wandb (repeatable).")
    ] = None,
    compile: Annotated[bool | None, typer.Option("--compile", help="torch.compile.")] = None,
    resume: Annotated[
        bool | None, typer.Option("--resume", help="Continue from the newest checkpoint.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Train a looped model on text or a task; progress goes to stderr, a killed run resumes with --resume."""
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("config", "json_output"):
        given.pop(name, None)
    settings = settings_of(config, given)
    if "data" not in settings and "task" not in settings:
        raise typer.BadParameter("name the text to train on, or a --task", param_hint="'--data'")

    from abbie_lens.training import TrainConfig, train

    run = TrainConfig.from_dict(settings)
    final = train(run)
    judged_by, name = ("accuracy", "accuracy") if run.task else ("held-out NLL", "nll")
    measured = json.loads(
        (final / ("accuracy.json" if run.task else "evaluation.json")).read_text("utf-8")
    )
    if json_output:
        typer.echo(json.dumps({"model": str(final), "heldout": measured}))
        return
    depths = zip(measured["n_iters"], measured[name], strict=True)
    figures = ", ".join(f"r={r} {_figure(value)}" for r, value in depths)
    typer.echo(f"{final}\n{judged_by}: {figures}")


def _figure(value: float | list[float | None] | None) -> str:
    """One figure, or the mean over a task's difficulties."""
    if isinstance(value, list):
        value = None if None in value else sum(v for v in value if v is not None) / len(value)
    return "refused" if value is None else f"{value:.3f}"
