"""`abbie-lens train`: a training run from the command line, one process or many (torchrun)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

# The shape of a model when neither --config nor an option names it: about 3M parameters, or small for a task.
_SHAPE = {"d_model": 192, "n_heads": 6, "n_ctx": 256}
_TASK_SHAPE = {"d_model": 64, "n_heads": 4}
_RECIPE = (
    "loss",
    "n_supervised",
    "stage",
    "depth",
    "depth_spread",
    "curriculum",
    "backprop_depth",
    "window",
    "jacobian_weight",
)
_MODEL = (
    "d_model",
    "n_heads",
    "d_mlp",
    "n_ctx",
    "n_head_blocks",
    "n_body_blocks",
    "n_tail_blocks",
    "n_iters",
)

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
    device: Annotated[str | None, typer.Option(help="cuda, mps or cpu.  [the best here]")] = None,
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
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the outcome as JSON on stdout.")
    ] = False,
) -> None:
    """Train a looped model on text or a task; progress goes to stderr, a killed run resumes with --resume."""
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("config", "json_output"):
        given.pop(name, None)
    settings = _settings(config, given)
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


def _settings(config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """TrainConfig as JSON: the file's, with the options laid over it."""
    settings: dict[str, Any] = _read(config) if config else {}
    _task(settings, given)
    model = settings.get("model", {})
    if not model and (source := given.get("init_from")):
        model = _shape_of(source)
    loop = dict(model.get("loop", {"family": "abbie-d"}))
    if (family := given.pop("loop", None)) and family != loop["family"]:
        loop = {"family": family}
    loop |= _json(given.pop("loop_settings", None), "'--loop-settings'")
    if recipe := {name: given.pop(name) for name in _RECIPE if name in given}:
        settings["recipe"] = {**(settings.get("recipe") or {}), **recipe}
    shape = {name: given.pop(name) for name in _MODEL if name in given}
    settings |= {name: str(v) if isinstance(v, Path) else v for name, v in given.items()}
    settings["model"] = {
        **(model or _preset(loop["family"], settings, shape)),
        **shape,
        "loop": loop,
    }
    if "out" not in settings:
        from abbie_lens import paths

        settings["out"] = str(paths.runs() / loop["family"])
    return settings


def _task(settings: dict[str, Any], given: dict[str, Any]) -> None:
    """The task with its settings, in place of the file's."""
    name, changes = (
        given.pop("task", None),
        _json(given.pop("task_settings", None), "'--task-settings'"),
    )
    if name is None and changes and not settings.get("task"):
        raise typer.BadParameter("settings of no --task", param_hint="'--task-settings'")
    if name is not None:
        settings["task"] = {"task": name}
    if settings.get("task"):
        settings["task"] = {**settings["task"], **changes}


def _preset(family: str, settings: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """The family's usual shape, at the asked width and the length of the task's rows."""
    from abbie_lens import loops, tasks

    usual = dict(_SHAPE)
    if settings.get("task"):
        usual = {**_TASK_SHAPE, "n_ctx": tasks.decode(settings["task"]).n_ctx}
    return usual | loops.family(family).shape(shape.get("d_model", usual["d_model"]))


def _shape_of(source: str) -> dict[str, Any]:
    """LoopedConfig as JSON of a saved model; the run that starts from it has its own name and seed."""
    from abbie_lens.files.layout import read_config
    from abbie_lens.files.load import find

    return read_config(find(source))[0].replace(model_name="", seed=None).to_dict()


def _json(text: str | None, hint: str) -> dict[str, Any]:
    if text is None:
        return {}
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint=hint) from None
    if not isinstance(plain, dict):
        raise typer.BadParameter("expected a JSON object", param_hint=hint)
    return plain


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="'--config'") from None
    if not isinstance(settings, dict):
        raise typer.BadParameter("expected a JSON object", param_hint="'--config'")
    return settings
