"""LoopUS: the layers of a plain model in three groups, a gate between iterations, a head that says when to stop.

Source: arXiv 2605.11011 and its code. The base model's whole config stands inside. Halting (q_threshold and its kin)
chooses an exit afterwards: a run makes all iterations it is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.shared import llama_layer, llama_shape
from abbie_lens.loops import LoopUS

TELL = "reasoning.gate.A_log"
GATE_IN = "reasoning.gate.dt_input_proj.weight"
STAGES = {"encoder": "head", "reasoning": "body", "decoder": "tail"}
NORMS = {"input_layernorm": "ln1", "post_attention_layernorm": "ln2"}
QK_NORMS = {f"self_attn.{n}_norm": f"attn.{n}_norm" for n in "qk"}
REST = {
    "encoder.embed_tokens.weight": "embed.weight",
    "decoder.norm.weight": "ln_final.weight",
    "decoder.lm_head.weight": "unembed.weight",
    TELL: "loop.update_gate.A_log",
    GATE_IN: "loop.update_gate.dt_in.weight",
    "reasoning.gate.delta_proj.weight": "loop.update_gate.dt_out.weight",
    "reasoning.gate.delta_proj.bias": "loop.update_gate.dt_out.bias",
    **{f"q_head.{i}.{k}": f"loop.confidence.{i}.{k}" for i in (0, 1) for k in ("weight", "bias")},
}


class LoopusFormat(Format):
    """n_iters is N. Older files say `plateau` for `reasoning`, or carry `module` from parallel training."""

    name = "loopus"
    ids = ("Thrillcrazyer/Qwen3_1.7B_LoopUS",)
    inert = (
        *("base_model_name_or_path", "q_threshold", "q_eval_interval", "halting_strategy"),
        *("convergence_epsilon",),
    )
    dead = r"(encoder|reasoning|decoder)\.rotary_emb\.\w+"

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By model_type."""
        return plain.get("model_type") == "lds"

    def objection(self, keys: Set[str]) -> str | None:
        """By the gate."""
        return None if TELL in keys else f"no {TELL}"

    def spelt(self, key: str) -> str:
        """Without what older files have more."""
        key = f".{key}".replace(".module.", ".").removeprefix(".")
        return f"reasoning.{key.removeprefix('plateau.')}" if key.startswith("plateau.") else key

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        base = fields.part("base_config_dict")
        normed = base.choice("model_type", {"qwen3": True, "llama": False})
        base.ignore("num_hidden_layers", "tie_word_embeddings")
        shape = llama_shape(base)
        for name, ours in (("hidden_size", "d_model"), ("vocab_size", "d_vocab")):
            fields.only(name, shape[ours])
        fields.only("tie_word_embeddings", False)
        rank = stored[GATE_IN][0] if GATE_IN in stored else None
        usual = math.ceil(shape["d_model"] / 16)
        for theirs, ours in STAGES.items():
            shape[f"n_{ours}_blocks"] = len(fields.items(f"{theirs}_layer_indices"))
        return LoopedConfig(
            **shape,
            n_iters=fields.integer("N"),
            qk_norm="learned" if normed else "none",
            tie_word_embeddings=False,
            loop=LoopUS(dt_rank=None if rank == usual else rank),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Layers, embedding, head, final norm, gate and confidence."""
        ours: Entries = {theirs: rows(name) for theirs, name in REST.items()}
        norms = NORMS | (QK_NORMS if cfg.qk_norm == "learned" else {})
        for theirs, stage in STAGES.items():
            for b in range(getattr(cfg, f"n_{stage}_blocks")):
                ours |= llama_layer(cfg, f"{theirs}.layers.{b}", f"{stage}.{b}", norms)
        return ours
