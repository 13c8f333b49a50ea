"""Saved models side by side, from what their own files say: held-out NLL, and accuracy on a task, against r."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from abbie_lens import tasks
from abbie_lens.errors import InputError
from abbie_lens.info import ModelInfo
from abbie_lens.tasks.evaluate import TaskEvaluation
from abbie_lens.zoo import ZooModel
from probes.comparison import Comparison, Curve, Quantity, assemble


def heldout(models: Sequence[ZooModel]) -> Comparison:
    """Held-out NLL against r of those among `models` that were trained on text.

    Errors: InputError if none was.
    """
    there = [m for m in models if m.metrics.get("evaluation")]
    if not there:
        raise InputError("models: none has a held-out loss (evaluation.json).")
    evaluations = [m.metrics["evaluation"] for m in there]
    curves = [
        Curve(
            *(numbers(e.get(name), len(e["n_iters"])) for name in ("n_iters", "nll", "low", "high"))
        )
        for e in evaluations
    ]
    quantity = Quantity("Held-out NLL (nats per token)", "lower is better", "iterations r")
    measured = {(e.get("n_tokens"), e.get("n_documents")) for e in evaluations}
    notes = _refusals(there, curves)
    if len(measured) > 1 or len({m.config.d_vocab for m in there}) > 1:
        notes.append(
            "Not all were measured on the same tokens: nats per token then differ for that reason too."
        )
    confidence = sorted({e.get("confidence", 0.95) for e in evaluations})
    shares = " or ".join(f"{100 * c:g}%" for c in confidence)
    return _of("Held-out loss against depth", there, [(quantity, curves)], notes,
               f"{shares} interval, bootstrap over documents and blocks of text")  # fmt: skip


def accuracies(models: Sequence[ZooModel]) -> Comparison:
    """Accuracy on its own task against r, over trained difficulties and beyond, of those trained on a task.

    Errors: InputError if none was.
    """
    there = [m for m in models if m.metrics.get("accuracy")]
    if not there:
        raise InputError("models: none was trained on a task (accuracy.json).")
    evaluations = [TaskEvaluation.from_dict(m.metrics["accuracy"]) for m in there]
    both = [by_range(e) for e in evaluations]
    chances = {round(e.chance, 6) for e in evaluations}
    chance = chances.pop() if len(chances) == 1 else float("nan")
    panels = [
        (Quantity(name, "mean over difficulties", "iterations r", chance=chance), [c[i] for c in both])
        for i, name in enumerate(("Accuracy, trained difficulties", "Accuracy, harder than trained"))
    ]  # fmt: skip
    notes = _refusals(there, [c[0] for c in both])
    if len({str(e.task) for e in evaluations}) > 1:
        notes.append("The tasks or their settings differ: compare each line with its own chance.")
    return _of("Accuracy on the task against depth", there, panels, notes,
               f"{100 * evaluations[0].confidence:g}% interval of the mean")  # fmt: skip


def by_range(evaluation: TaskEvaluation) -> tuple[Curve, Curve]:
    """Mean accuracy at each r over the trained difficulties, and over the harder ones (NaN if there are none)."""
    hardest = tasks.decode(evaluation.task).train_difficulty[1]
    difficulty = np.array(evaluation.difficulty)
    return (
        _mean(evaluation, difficulty <= hardest),
        _mean(evaluation, difficulty > hardest),
    )


def numbers(values: Sequence[float | None] | None, n: int) -> np.ndarray:
    """Numbers as JSON keeps them: null, or all of them missing, is NaN."""
    return np.array([np.nan if v is None else float(v) for v in (values or [None] * n)])


def _mean(evaluation: TaskEvaluation, chosen: np.ndarray) -> Curve:
    """Mean over independent shares; its bounds from theirs (Zou & Donner 2008)."""
    x = np.array(evaluation.n_iters, dtype=float)
    if not chosen.any():
        nothing = np.full(len(x), np.nan)
        return Curve(x, nothing, nothing, nothing)
    share, low, high = (getattr(evaluation, n)[:, chosen] for n in ("accuracy", "low", "high"))
    mean = share.mean(1)
    below, above = (np.sqrt(((share - bound) ** 2).sum(1)) for bound in (low, high))
    return Curve(x, mean, mean - below / chosen.sum(), mean + above / chosen.sum())


def _refusals(models: Sequence[ZooModel], curves: Sequence[Curve]) -> list[str]:
    notes = []
    for model, curve in zip(models, curves, strict=True):
        refused = [
            f"{r:g}" for r, value in zip(curve.x, curve.value, strict=True) if np.isnan(value)
        ]
        if refused:
            notes.append(f"{model.name} refuses r = {', '.join(refused)}: a gap.")
    return notes


def _of(
    heading: str,
    models: Sequence[ZooModel],
    panels: Sequence[tuple[Quantity, Sequence[Curve]]],
    notes: Sequence[str],
    band: str,
) -> Comparison:
    deepest = max(float(np.nanmax(curve.x)) for _, curves in panels for curve in curves)
    runs = [(model.name, info(model)) for model in models]
    return assemble(heading, runs, panels, band=band, n_iters=int(deepest), notes=notes)


def info(model: ZooModel) -> ModelInfo:
    """Identity of a model whose weights are not loaded."""
    cfg: Any = model.config
    return ModelInfo(
        model.name, cfg.loop.label, "", model.n_params, cfg.n_iters, cfg.dtype, cfg.loop.counts
    )
