"""Model cards written from what a run measured and stored: no figure is typed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abbie_lens import tasks
from abbie_lens.files.card import architecture, model_card
from abbie_lens.tasks.evaluate import TaskEvaluation

from .config import TrainConfig
from .evaluate import Evaluation

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


def nll_table(evaluation: Evaluation) -> str:
    """Markdown table of held-out NLL and perplexity by depth."""
    percent = f"{100 * evaluation.confidence:g} % interval"
    lines = [f"| r | NLL (nats/token) | {percent} | perplexity |", "|--:|--:|:-:|--:|"]
    rows = zip(evaluation.n_iters, evaluation.nll, evaluation.low, evaluation.high, strict=True)
    for r, nll, low, high in rows:
        if math.isnan(nll):
            lines.append(f"| {r} | – | refused | – |")
            continue
        lines.append(f"| {r} | {nll:.3f} | {low:.3f} – {high:.3f} | {math.exp(nll):.1f} |")
    lines.append("")
    lines.append(
        f"{evaluation.n_tokens:,} held-out tokens of {evaluation.n_documents} documents; intervals "
        f"by block bootstrap over documents and {evaluation.n_blocks} blocks of text."
    )
    return "\n".join(lines)


def accuracy_table(evaluation: TaskEvaluation) -> str:
    """Markdown table of accuracy by depth and needed steps."""
    trained = tasks.decode(evaluation.task).train_difficulty
    percent = f"{100 * evaluation.confidence:g} % intervals"
    lines = ["| r | " + " | ".join(f"{d} steps" for d in evaluation.difficulty) + " |"]
    lines.append("|--:|" + "--:|" * len(evaluation.difficulty))
    for r, *row in zip(
        evaluation.n_iters, evaluation.accuracy, evaluation.low, evaluation.high, strict=True
    ):
        cells = [
            "refused" if math.isnan(share) else f"{share:.3f} ({low:.3f} – {high:.3f})"
            for share, low, high in zip(*row, strict=True)
        ]
        lines.append(f"| {r} | {' | '.join(cells)} |")
    lines.append("")
    lines.append(
        f"Share of answers that are the first choice, with {percent}, by needed steps; {trained[0]} to "
        f"{trained[1]} were trained. Chance: {evaluation.chance:.3f}. "
        f"At least {int(evaluation.n.min()):,} answers a cell."
    )
    return "\n".join(lines)


def training_metrics(
    config: TrainConfig, model: HookedLoopedTransformer, n_steps: int
) -> dict[str, Any]:
    """What metrics.json holds: length and settings of the run, as plain JSON."""
    return {
        "steps": n_steps,
        "tokens": n_steps * config.batch_size * (model.cfg.n_ctx - 1),
        "training": _portable(config),
    }


def training_card(
    model: HookedLoopedTransformer,
    metrics: dict[str, Any],
    evaluation: Evaluation | TaskEvaluation,
) -> str:
    """Model card of a finished run, from the model and what was stored with it."""
    cfg, config = model.cfg, TrainConfig.from_dict(metrics["training"])
    decay = f"{config.decay} decay over the last {100 * config.decay_fraction:g} %"
    if isinstance(evaluation, Evaluation):
        source = {"text": f"`{config.data}`, held out `{config.heldout or 'its last hundredth'}`"}
        title, measured = "Held-out loss", nll_table(evaluation)
    else:
        source = {"task": f"`{json.dumps(config.task)}`"}
        title, measured = "Accuracy", accuracy_table(evaluation)
    rows = {
        **source,
        **({"starts from": f"`{config.init_from}`"} if config.init_from else {}),
        "tokens, steps": f"{metrics['tokens']:,}, {metrics['steps']:,}",
        "batch": f"{config.batch_size} windows of {cfg.n_ctx} tokens",
        "optimizer": f"AdamW (0.9, 0.95), weight decay {config.weight_decay:g} on matrices, "
        f"gradient norm clipped at {config.grad_clip:g}",
        "learning rate": f"{config.learning_rate:g}, {config.warmup_steps} steps of warm-up, {decay}",
        "precision, seed": f"{config.precision}, {config.seed}",
    }
    table = "\n".join(f"| {name} | {value} |" for name, value in rows.items())
    body = f"""{architecture(model)}
## Training

| | |
|---|---|
{table}

Made by `abbie-lens train` with these settings:

```json
{json.dumps(metrics["training"], indent=2)}
```

## {title}

{measured}
"""
    return model_card(model, body)


def _portable(config: TrainConfig) -> dict[str, Any]:
    """The settings without folders of the machine that trained it."""
    plain = config.to_dict()
    for name in ("data", "heldout", "tokenizer", "init_from", "out"):
        if plain[name]:
            plain[name] = _file_name(plain[name])
    return plain


def _file_name(source: str) -> str:
    return source if source.startswith("hf:") else Path(source).name
