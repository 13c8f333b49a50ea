"""Model cards written from what a run measured and stored: no figure is typed by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

from typing import TYPE_CHECKING, Any

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
        lines.append(f"| {r} | {nll:.3f} | {low:.3f} – {high:.3f} | {math.exp(nll):.1f} |")
    lines.append("")
    lines.append(
        f"{evaluation.n_tokens:,} held-out tokens of {evaluation.n_documents} documents; intervals "
        f"by block bootstrap over documents and {evaluation.n_blocks} blocks of text."
    )
    return "\n".join(lines)


def training_card(
    config: TrainConfig, model: HookedLoopedTransformer, n_steps: int, evaluation: Evaluation
) -> str:
    """Model card of a finished run: what was trained, on what, how, and how well it predicts."""
    cfg, info = model.cfg, model.info()
    tokens = n_steps * config.batch_size * (cfg.n_ctx - 1)
    name = cfg.model_name or "A looped language model"
    blocks = f"{cfg.n_head_blocks} + {cfg.n_body_blocks} + {cfg.n_tail_blocks}"
    return f"""---
library_name: abbie-lens
pipeline_tag: text-generation
---

# {name}

A looped transformer of the family {info.family}, trained at r = {cfg.n_iters} with abbie-lens.

| | |
|---|---|
| parameters | {info.n_params:,} |
| blocks (Head + Body + Tail) | {blocks} |
| d_model, heads, d_mlp | {cfg.d_model}, {cfg.n_heads} × {cfg.head_width}, {cfg.mlp_width} |
| vocabulary, context | {cfg.d_vocab:,}, {cfg.n_ctx} |
| training text | `{_file_name(config.data)}` |
| tokens, steps | {tokens:,}, {n_steps:,} |
| batch | {config.batch_size} windows of {cfg.n_ctx} tokens |
| optimizer | AdamW (0.9, 0.95), weight decay {config.weight_decay:g} on matrices, clipped at {config.grad_clip:g} |
| learning rate | {config.learning_rate:g}; {config.warmup_steps} steps of warm-up, {config.decay} decay over the last {100 * config.decay_fraction:g} % |
| seed | {config.seed} |

## Held-out loss

{nll_table(evaluation)}

## How it was made

`abbie-lens train --config config.json`, with

```json
{json.dumps(_portable(config), indent=2)}
```
"""


def _portable(config: TrainConfig) -> dict[str, Any]:
    """The settings without folders of the machine that trained it."""
    plain = config.to_dict()
    for name in ("data", "heldout", "tokenizer", "out"):
        if plain[name] is not None:
            plain[name] = _file_name(plain[name])
    return plain


def _file_name(source: str) -> str:
    return source if source.startswith("hf:") else Path(source).name
