"""`abbie-lens train`: a training run from the command line, one process or many (torchrun)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

# The shape of a model when neither --config nor an option names it: about 3M parameters.
_SHAPE = {"d_model": 192, "n_heads": 6, "n_ctx": 256}
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
_Loop = Annotated[str | None, typer.Option(help="Loop family: std, abbie-c, abbie-d.  [abbie-d]")]
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
    residual: Annotated[
        str | None, typer.Option(help="abbie-d: between, skip_first or literal.  [between]")
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
    d_model: Annotated[int | None, typer.Option(help="Width.  [192]")] = None,
    n_heads: Annotated[int | None, typer.Option(help="Attention heads.  [6]")] = None,
    d_mlp: Annotated[int | None, typer.Option(help="MLP width.  [8/3 of the width]")] = None,
    n_ctx: Annotated[int | None, typer.Option(help="Tokens of context.  [256]")] = None,
    n_head_blocks: Annotated[int | None, typer.Option(help="Blocks of the Head.  [1]")] = None,
    n_body_blocks: Annotated[int | None, typer.Option(help="Blocks of the Body.  [2]")] = None,
    n_tail_blocks: Annotated[int | None, typer.Option(help="Blocks of the Tail.  [1]")] = None,
    n_iters: Annotated[int | None, typer.Option(help="Body applications in training.  [2]")] = None,
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
    """Train a looped model on text; progress goes to stderr, a killed run resumes with --resume."""
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("config", "json_output"):
        given.pop(name, None)
    settings = _settings(config, given)
    if "data" not in settings:
        raise typer.BadParameter("name the text to train on", param_hint="'--data'")

    from abbie_lens.training import TrainConfig, train

    run = TrainConfig.from_dict(settings)
    final = train(run)
    evaluation = json.loads((final / "evaluation.json").read_text(encoding="utf-8"))
    if json_output:
        typer.echo(json.dumps({"model": str(final), "heldout": evaluation}))
        return
    depths = zip(evaluation["n_iters"], evaluation["nll"], strict=True)
    typer.echo(
        f"{final}\nheld-out NLL: "
        + ", ".join(f"r={r} " + ("refused" if nll is None else f"{nll:.3f}") for r, nll in depths)
    )


def _settings(config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """TrainConfig as JSON: the file's, with the options laid over it."""
    settings: dict[str, Any] = _read(config) if config else {}
    model = dict(settings.get("model", _SHAPE))
    model |= {name: given.pop(name) for name in _MODEL if name in given}
    loop = dict(model.get("loop", {"family": "abbie-d"}))
    if (family := given.pop("loop", None)) and family != loop["family"]:
        loop = {"family": family}
    if residual := given.pop("residual", None):
        loop["residual"] = residual
    settings |= {name: str(v) if isinstance(v, Path) else v for name, v in given.items()}
    settings["model"] = {**model, "loop": loop}
    if "out" not in settings:
        from abbie_lens import paths

        settings["out"] = str(paths.runs() / loop["family"])
    return settings


def _read(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise typer.BadParameter(f"not JSON: {error}", param_hint="'--config'") from None
    if not isinstance(settings, dict):
        raise typer.BadParameter("expected a JSON object", param_hint="'--config'")
    return settings
