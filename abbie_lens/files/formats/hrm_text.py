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
                theirs, block = f"model.{stack}_module.layers.{b}", f"body.{first + b}"
                ours |= _attention(theirs, block, stored, "weight")
                ours |= _mlp(theirs, block, stored, "weight")
                if cfg.attn_bias:
                    ours |= _attention(theirs, block, stored, "bias")
                if cfg.use_bias:
                    ours |= _mlp(theirs, block, stored, "bias")
        return ours


def _attention(theirs: str, ours: str, stored: Shapes, kind: str) -> Entries:
    split = f"{theirs}.self_attn.o_proj.weight" in stored
    attn = f"{theirs}.{'self_attn' if split else 'attn'}"
    names = {n: f"{ours}.attn.{n}_proj.{kind}" for n in ("gate", "q", "k", "v")}
    return {
        f"{attn}.o_proj.{kind}": rows(f"{ours}.attn.o_proj.{kind}"),
        **_fused_or_not(f"{attn}.gqkv_proj.{kind}", f"{attn}.{{}}_proj.{kind}", names, stored),
    }


def _mlp(theirs: str, ours: str, stored: Shapes, kind: str) -> Entries:
    mlp = f"{theirs}.mlp"
    names = {"gate": f"{ours}.mlp.gate_proj.{kind}", "up": f"{ours}.mlp.in_proj.{kind}"}
    return {
        f"{mlp}.down_proj.{kind}": rows(f"{ours}.mlp.out_proj.{kind}"),
        **_fused_or_not(f"{mlp}.gate_up_proj.{kind}", f"{mlp}.{{}}_proj.{kind}", names, stored),
    }


def _fused_or_not(fused: str, single: str, names: dict[str, str], stored: Shapes) -> Entries:
    """Rows of one tensor, or a tensor each where the first of these is stored; `names`: their part -> ours."""
    if single.format(next(iter(names))) in stored:
        return {single.format(part): rows(ours) for part, ours in names.items()}
    return {fused: rows(*names.values())}
