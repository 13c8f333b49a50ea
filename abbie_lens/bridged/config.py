"""BridgedConfig: what analyses ask of a bridged model's shape, under LoopedConfig's names."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from abbie_lens.bridged.loop import Loop
from abbie_lens.config import StagedConfig
from abbie_lens.loops import LoopFamily


@dataclass(frozen=True)
class BridgedConfig(StagedConfig):
    """A description, not a recipe: shapes that our own blocks cannot have are described as well."""

    qk_norm: ClassVar[str] = "learned"
    """Where a bridged attention norms queries and keys, it does so head by head."""

    architecture: str
    """Class of the bridged model, e.g. `LlamaForCausalLM`."""
    d_model: int
    n_heads: int
    d_vocab: int
    n_ctx: int
    n_head_blocks: int
    n_body_blocks: int
    n_tail_blocks: int
    n_iters: int
    loop: LoopFamily
    head_width: int
    mlp_width: int
    kv_heads: int
    act_fn: str
    normalization_type: str
    positional_embedding_type: str
    gated_mlp: bool
    eps: float
    output_logits_soft_cap: float
    dtype: str
    model_name: str


def describe(bridge: Any, loop: Loop, dtype: torch.dtype, name: str) -> BridgedConfig:
    """The config of a TransformerBridge looped over a window."""
    cfg, n_blocks = bridge.cfg, len(bridge.blocks)
    get = lambda field, default: getattr(cfg, field, None) or default  # noqa: E731
    return BridgedConfig(
        architecture=type(bridge.original_model).__name__,
        d_model=cfg.d_model,
        n_heads=cfg.n_heads,
        d_vocab=cfg.d_vocab,
        n_ctx=cfg.n_ctx,
        n_head_blocks=loop.start,
        n_body_blocks=loop.stop - loop.start,
        n_tail_blocks=n_blocks - loop.stop,
        n_iters=loop.n_iters,
        loop=loop.family,
        head_width=get("d_head", cfg.d_model // cfg.n_heads),
        mlp_width=get("d_mlp", 4 * cfg.d_model),
        kv_heads=get("n_key_value_heads", cfg.n_heads),
        act_fn=str(get("act_fn", "")),
        normalization_type=str(get("normalization_type", "")),
        positional_embedding_type=str(get("positional_embedding_type", "")),
        gated_mlp=bool(get("gated_mlp", False)),
        eps=float(get("eps", 0.0)),
        output_logits_soft_cap=max(0.0, float(get("output_logits_soft_cap", 0.0))),
        dtype=str(dtype).removeprefix("torch."),
        model_name=name,
    )
