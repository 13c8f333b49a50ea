"""Plain Llama and Mistral: a stack of the usual layers without a loop, read as `std`, all blocks in the Body.

Its depth is 1, at which it is the published model; r > 1 repeats the whole stack. Source: transformers' own configs.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.shared import llama_layer, llama_shape, tied
from abbie_lens.loops import Std

NORMS = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}
FIRST = "model.layers.0"


class LlamaFormat(Format):
    """No other loop: to iterate some of its blocks, load it with `loop=`, or cut it with `abbie-lens retrofit`."""

    name = "llama"
    ids = ("HuggingFaceTB/SmolLM2-135M-Instruct",)
    inert = ("is_llama_config", "transformers.js_config")
    dead = r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq"

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By model_type."""
        return plain.get("model_type") in ("llama", "mistral")

    def objection(self, keys: Set[str]) -> str | None:
        """By its first layer, which norms no queries."""
        wanted = f"{FIRST}.self_attn.q_proj.weight"
        if wanted not in keys:
            return f"no {wanted}"
        more = sorted(k for k in keys if k.startswith(FIRST) and k.endswith("q_norm.weight"))
        return f"has {more[0]}" if more else None

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        return LoopedConfig(
            **llama_shape(fields),
            **tied(fields, "tie_word_embeddings", False),
            n_head_blocks=0,
            n_body_blocks=fields.integer("num_hidden_layers"),
            n_tail_blocks=0,
            n_iters=1,
            loop=Std(),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Layers, embedding, head and final norm."""
        ours: Entries = {
            "model.embed_tokens.weight": rows("embed.weight"),
            "lm_head.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
            "model.norm.weight": rows("ln_final.weight"),
        }
        for b in range(cfg.n_body_blocks):
            ours |= llama_layer(cfg, f"model.layers.{b}", f"body.{b}", NORMS)
        return ours
