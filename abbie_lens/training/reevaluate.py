"""reevaluate(folder, text): measure a saved model again, and let its files say what was measured."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from abbie_lens.errors import CheckpointError, ConfigError, InputError
from abbie_lens.files.layout import CARD, EVALUATION, METRICS
from abbie_lens.model import HookedLoopedTransformer

from .card import training_card
from .config import TrainConfig
from .evaluate import Evaluation, evaluate
from .tokenizer import tokenizer_hash
from .tokens import TokenFile


def reevaluate(
    folder: str | Path,
    text: TokenFile,
    n_iters: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    max_windows: int | None = None,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Evaluate the trained model in `folder` on `text` and rewrite its evaluation and its card.

    The folder is a training run's `final/`, or a copy of it. The weights stay; evaluation.json,
    README.md and, in metrics.json, the depths and windows of the final evaluation are replaced.
    Settings as in `evaluate`. Errors: CheckpointError (no model, or no metrics.json of a training
    run), InputError (`text` is of another tokenizer, or too short).
    """
    folder = Path(folder)
    model = HookedLoopedTransformer.from_pretrained(folder)
    try:
        metrics = json.loads((folder / METRICS).read_text("utf-8"))
        metrics["training"] |= {"final_n_iters": list(n_iters), "final_windows": max_windows}
        TrainConfig.from_dict(metrics["training"])
    except (OSError, ValueError, LookupError, TypeError, ConfigError) as error:
        raise CheckpointError(
            f"{folder / METRICS}: not what a training run writes ({error!r})"
        ) from None
    if model.tokenizer is None or tokenizer_hash(model.tokenizer) != text.tokenizer_hash:
        raise InputError(
            f"text={str(text.path)!r} was made with another tokenizer than the model's"
        )
    result = evaluate(
        model, text, n_iters, max_windows=max_windows, batch_size=batch_size, progress=progress
    )
    # The card last: it is written from the other two.
    _replace(folder / EVALUATION, _json(result.to_dict()))
    _replace(folder / METRICS, _json(metrics))
    _replace(folder / CARD, training_card(model, metrics, result))
    return result


def _json(content: object) -> str:
    return json.dumps(content, indent=2) + "\n"


def _replace(path: Path, content: str) -> None:
    partial = path.with_suffix(".tmp")
    partial.write_text(content, encoding="utf-8")
    os.replace(partial, path)
