"""What `abbie-lens train` was asked for, as the settings of a run: the file's, with the options laid over it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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


def settings_of(config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
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
