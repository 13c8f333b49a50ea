"""The model card: README.md with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from huggingface_hub import ModelCardData

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer


def model_card(
    model: HookedLoopedTransformer,
    body: str | None = None,
    *,
    license: str | None = None,
    language: str | None = None,
    tags: Sequence[str] = (),
) -> str:
    """Text of a card: front matter, then `body`, or a table of the architecture if there is none."""
    data = ModelCardData(
        library_name="abbie-lens",
        pipeline_tag="text-generation",
        tags=["looped-transformer", model.cfg.loop.family, *tags],
        license=license,
        language=language,
    )
    return f"---\n{data.to_yaml()}\n---\n\n{body or architecture(model)}"


def architecture(model: HookedLoopedTransformer) -> str:
    """Name, shape and how to load, in Markdown."""
    cfg, name = model.cfg, model.name or "a looped transformer"
    rows = {
        "loop": model.info().family,
        "trained iterations": cfg.n_iters,
        "blocks (Head + Body + Tail)": f"{cfg.n_head_blocks} + {cfg.n_body_blocks} + {cfg.n_tail_blocks}",
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}",
        "width, heads, MLP": f"{cfg.d_model}, {cfg.n_heads} x {cfg.d_head}, {cfg.d_mlp}",
        "vocabulary, context": f"{cfg.d_vocab}, {cfg.n_ctx}",
    }
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return (
        f"# {name}\n\nA looped language model: Head once, Body r times, Tail once.\n\n"
        f"| | |\n|---|---|\n{table}\n\n"
        "```python\nimport abbie_lens\n\n"
        'model = abbie_lens.load("FOLDER_OR_HUB_ID")\n'
        'logits, cache = model.run_with_cache("Hello", n_iters=8)\n```\n'
    )
