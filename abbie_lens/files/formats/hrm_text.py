"""HRM-Text: two stacks in nested cycles, norms without weights, gated attention.

Source: HrmText of transformers. Projections are stored fused (rows gate, q, k, v; gate, up) or one by one, under
`attn` or `self_attn`. `num_hidden_layers` counts cache slots where `num_layers_per_stack` says the depth.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.shared import llama_shape, tied
from abbie_lens.loops import HRM

LOW_INIT = "model.z_L_init"


class HrmText(Format):
    """n_iters is H_cycles; L_cycles is the loop's own setting."""

    name = "hrm_text"
    ids = ("sapientinc/HRM-Text-1B",)
    inert = ("num_hidden_layers",)
    dead = r"(model\.)?rotary_emb\.\w+"

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By model_type."""
        return plain.get("model_type") == "hrm_text"

    def objection(self, keys: Set[str]) -> str | None:
        """By the low stack's first state."""
        return None if LOW_INIT in keys else f"no {LOW_INIT}"

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        depth = fields.integer("num_layers_per_stack", None) or fields.integer("num_hidden_layers")
        low = fields.integer("L_cycles")
        scale = fields.number("embedding_scale", None)
        backprop = tuple(min(int(n), low) for n in fields.items("L_bp_cycles", [2]))
        shape = llama_shape(fields)
        if shape["n_key_value_heads"] != shape["n_heads"]:
            fields.refuse(
                "num_key_value_heads", "gated attention has as many heads for keys as for queries"
            )
        return LoopedConfig(
            **shape,
            **tied(fields, "tie_word_embeddings"),
            n_head_blocks=0,
            n_body_blocks=2 * depth,
            n_tail_blocks=0,
            n_iters=fields.integer("H_cycles"),
            normalization_type="RMSPre",
            attention_gate=True,
            prefix_lm=fields.flag("prefix_lm", False),
            embed_scale=1 / fields.number("initializer_range") if scale is None else scale,
            loop=HRM(low_cycles=low, n_low_blocks=depth, backprop_cycles=backprop),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Both stacks, embedding, head and the low stack's first state."""
        ours: Entries = {
            "model.embed_tokens.weight": rows("embed.weight"),
            "lm_head.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
            LOW_INIT: rows("loop.low_init.weight"),
        }
        depth = cfg.n_body_blocks // 2
        for stack, first in (("L", 0), ("H", depth)):
            for b in range(depth):
                ours |= _layer(f"model.{stack}_module.layers.{b}", f"body.{first + b}", stored)
        return ours


def _layer(theirs: str, ours: str, stored: Shapes) -> Entries:
    split = f"{theirs}.self_attn.o_proj.weight" in stored
    attn = f"{theirs}.{'self_attn' if split else 'attn'}"
    gqkv = [f"{ours}.attn.{n}_proj.weight" for n in ("gate", "q", "k", "v")]
    up = [f"{ours}.mlp.{n}_proj.weight" for n in ("gate", "in")]
    entries = {
        f"{attn}.o_proj.weight": rows(f"{ours}.attn.o_proj.weight"),
        f"{theirs}.mlp.down_proj.weight": rows(f"{ours}.mlp.out_proj.weight"),
    }
    if f"{attn}.q_proj.weight" in stored:
        names = [f"{attn}.{n}_proj.weight" for n in ("gate", "q", "k", "v")]
        entries |= {a: rows(b) for a, b in zip(names, gqkv, strict=True)}
    else:
        entries[f"{attn}.gqkv_proj.weight"] = rows(*gqkv)
    if f"{theirs}.mlp.up_proj.weight" in stored:
        names = [f"{theirs}.mlp.{n}_proj.weight" for n in ("gate", "up")]
        entries |= {a: rows(b) for a, b in zip(names, up, strict=True)}
    else:
        entries[f"{theirs}.mlp.gate_up_proj.weight"] = rows(*up)
    return entries
