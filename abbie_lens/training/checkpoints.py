"""Checkpoints of a run: whole or absent, weights and optimizer as safetensors, no pickle."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from abbie_lens.errors import CheckpointError

FORMAT = "abbie-lens-train-1"
KEEP = 2


def steps(folder: Path) -> list[Path]:
    """Finished checkpoints, oldest first."""
    return sorted(p for p in folder.glob("step-*") if p.is_dir())


def save(
    folder: Path,
    step: int,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    state: dict[str, Any],
) -> Path:
    """Write `folder/step-…`, then drop all but the newest two."""
    target = folder / f"step-{step:09d}"
    partial = folder / f".partial-{os.getpid()}"
    for stale in folder.glob(".partial-*"):
        shutil.rmtree(stale)
    partial.mkdir(parents=True)
    save_file(_weights(model), partial / "model.safetensors")
    save_file(_moments(model, optimizer), partial / "optimizer.safetensors")
    (partial / "state.json").write_text(json.dumps({**state, "format": FORMAT, "step": step}))
    if target.exists():
        shutil.rmtree(target)
    os.replace(partial, target)
    for old in steps(folder)[:-KEEP]:
        shutil.rmtree(old)
    return target


def read_state(checkpoint: Path) -> dict[str, Any]:
    """The small state of a checkpoint: step and the settings it was made with."""
    try:
        state = json.loads((checkpoint / "state.json").read_text())
        if state["format"] != FORMAT or state["step"] < 0:
            raise ValueError(f"expected format {FORMAT}, found {state['format']!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(checkpoint, error) from error
    return state


def restore(checkpoint: Path, model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load weights and optimizer state in place; CheckpointError where they don't fit exactly."""
    try:
        weights = load_file(checkpoint / "model.safetensors")
        moments = load_file(checkpoint / "optimizer.safetensors")
    except (OSError, SafetensorError) as error:
        raise _damaged(checkpoint, error) from error
    parameters = dict(model.named_parameters())
    _fit(checkpoint, "model", weights, {n: p.shape for n, p in parameters.items()})
    # What is frozen has no moments.
    trained = {n: p for n, p in parameters.items() if p.requires_grad}
    expected = {}
    for name, parameter in trained.items():
        expected[f"{name}/step"] = torch.Size()
        expected[f"{name}/exp_avg"] = expected[f"{name}/exp_avg_sq"] = parameter.shape
    _fit(checkpoint, "optimizer", moments, expected)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(weights[name])
    for name, parameter in trained.items():
        optimizer.state[parameter] = {
            # AdamW keeps its step count on the CPU unless fused on an accelerator.
            "step": moments[f"{name}/step"].to(_step_device(optimizer, parameter)),
            "exp_avg": moments[f"{name}/exp_avg"].to(parameter.device),
            "exp_avg_sq": moments[f"{name}/exp_avg_sq"].to(parameter.device),
        }


def _weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    # Parameters, not state_dict: a tied matrix appears once.
    return {n: p.detach().cpu().contiguous() for n, p in model.named_parameters()}


def _moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    return {
        f"{name}/{key}": value.detach().cpu().contiguous()
        for name, parameter in model.named_parameters()
        for key, value in optimizer.state[parameter].items()
    }


def _step_device(optimizer: torch.optim.Optimizer, parameter: torch.Tensor) -> torch.device | str:
    return parameter.device if optimizer.param_groups[0].get("fused") else "cpu"


def _fit(
    checkpoint: Path, what: str, found: dict[str, torch.Tensor], expected: dict[str, torch.Size]
) -> None:
    missing, unused = expected.keys() - found.keys(), found.keys() - expected.keys()
    wrong = [n for n in expected.keys() & found.keys() if found[n].shape != expected[n]]
    if missing or unused or wrong:
        raise CheckpointError(
            f"{checkpoint}: {what}.safetensors doesn't fit the model: missing {sorted(missing)[:3]}, "
            f"unused {sorted(unused)[:3]}, of another shape {sorted(wrong)[:3]}"
        )


def _damaged(checkpoint: Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"checkpoint {checkpoint} is damaged or incomplete ({error}); "
        "delete that folder to resume from the one before it"
    )
