"""Ouro: one stack of layers under the usual names, second norms on what they add, and an exit gate.

Source: arXiv 2510.25741 and its public code. early_exit_threshold only chooses an exit afterwards: here that is the
halting rule `learned_gate`, and a run makes all loops it is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.shared import llama_layer, llama_shape, tied
from abbie_lens.loops import Ouro

GATE = "model.early_exit_gate"
NORMS = {
    "input_layernorm": "ln1",
    "input_layernorm_2": "ln1_post",
    "post_attention_layernorm": "ln2",
    "post_attention_layernorm_2": "ln2_post",
}


class OuroFormat(Format):
    """n_iters is total_ut_steps."""

    name = "ouro"
    ids = tuple(f"ByteDance/Ouro-{s}" for s in ("1.4B", "2.6B", "1.4B-Thinking", "2.6B-Thinking"))
    inert = ("early_exit_threshold",)
    dead = r"(model\.)?(layers\.\d+\.self_attn\.)?rotary_emb\.\w+"

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By model_type."""
        return plain.get("model_type") == "ouro"

    def objection(self, keys: Set[str]) -> str | None:
        """By the gate."""
        return None if f"{GATE}.weight" in keys else f"no {GATE}.weight"

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        return LoopedConfig(
            **llama_shape(fields),
            **tied(fields, "tie_word_embeddings"),
            n_head_blocks=0,
            n_body_blocks=fields.integer("num_hidden_layers"),
            n_tail_blocks=0,
            n_iters=fields.integer("total_ut_steps"),
            norm_placement="sandwich_branch",
            loop=Ouro(),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Layers, embedding, head, final norm and gate."""
        ours: Entries = {
            "model.embed_tokens.weight": rows("embed.weight"),
            "lm_head.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
            "model.norm.weight": rows("ln_final.weight"),
            f"{GATE}.weight": rows("loop.gate.weight"),
            f"{GATE}.bias": rows("loop.gate.bias"),
        }
        for b in range(cfg.n_body_blocks):
            ours |= llama_layer(cfg, f"model.layers.{b}", f"body.{b}", NORMS)
        return ours
