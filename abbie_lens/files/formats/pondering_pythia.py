"""PonderingPythia: a Pythia whose predictions are fed back through its embeddings. Source: arXiv 2505.20674, its code.

model_type is that of an ordinary Pythia: `ponderinglm` tells them apart. With `mutiply_pondering_steps` (sic) the first
input grows with the number of steps of the run, as in the original; to sweep depths with it fixed at the trained number,
set the loop's `first_scale` to "trained".
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, HeadRows, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.shared import ACTIVATIONS, biases, tied
from abbie_lens.loops import Ponder

PARTS = {
    "input_layernorm": "ln1",
    "post_attention_layernorm": "ln2",
    "attention.dense": "attn.o_proj",
    "mlp.dense_h_to_4h": "mlp.in_proj",
    "mlp.dense_4h_to_h": "mlp.out_proj",
}
FIRST = "gpt_neox.layers.0.attention.query_key_value.weight"


class PonderingPythia(Format):
    """n_iters is pondering_steps."""

    name = "pondering_pythia"
    ids = ("zeng123/PonderingPythia-1.4B", "zeng123/PonderingPythia-2.8B")
    inert = ("checkpoint_num_layers",)
    dead = (
        r"adapter\.weight"
        r"|gpt_neox\.layers\.\d+\.attention\.(bias|masked_bias|rotary_emb\.inv_freq)"
    )

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By the flag beside the model_type."""
        return plain.get("model_type") == "gpt_neox" and bool(plain.get("ponderinglm"))

    def objection(self, keys: Set[str]) -> str | None:
        """By a layer of GPT-NeoX."""
        return None if FIRST in keys else f"no {FIRST}"

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        fields.only("ponderinglm", True)
        fields.only("rope_scaling", None)
        width, heads = fields.integer("hidden_size"), fields.integer("num_attention_heads")
        rope = fields.part("rope_parameters")
        rope.only("rope_type", "default")
        base, share = rope.number("rope_theta", None), rope.number("partial_rotary_factor", None)
        if base is None:
            base = fields.agreeing("rotary_emb_base", "rope_theta")
        if share is None:
            share = fields.agreeing("rotary_pct", "partial_rotary_factor")
        fields.ignore("rotary_emb_base", "rope_theta", "rotary_pct", "partial_rotary_factor")
        grows = fields.flag("mutiply_pondering_steps")
        return LoopedConfig(
            d_model=width,
            n_heads=heads,
            d_mlp=fields.integer("intermediate_size"),
            d_vocab=fields.integer("vocab_size"),
            n_ctx=fields.integer("max_position_embeddings"),
            n_head_blocks=0,
            n_body_blocks=fields.integer("num_hidden_layers"),
            n_tail_blocks=0,
            n_iters=fields.integer("pondering_steps"),
            act_fn=fields.choice("hidden_act", ACTIVATIONS),
            gated_mlp=False,
            normalization_type="LN",
            eps=fields.number("layer_norm_eps"),
            parallel_attn_mlp=fields.flag("use_parallel_residual"),
            rotary_dim=int(share * (width // heads)),
            rotary_base=float(base),
            **biases(fields.flag("attention_bias", True), mlp=True),
            **tied(fields, "tie_word_embeddings"),
            embed_scale=width**0.5 if fields.flag("scale_embeds") else 1.0,
            loop=Ponder(first_scale="planned" if grows else "one"),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Layers, embedding, head and final norm."""
        ours: Entries = {
            "gpt_neox.embed_in.weight": rows("embed.weight"),
            "embed_out.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
        }
        for kind in ("weight", "bias"):
            ours[f"gpt_neox.final_layer_norm.{kind}"] = rows(f"ln_final.{kind}")
            for b in range(cfg.n_body_blocks):
                layer = f"gpt_neox.layers.{b}"
                biased = kind == "weight" or cfg.attn_bias
                for theirs, name in PARTS.items():
                    if biased or not theirs.startswith("attention"):
                        ours[f"{layer}.{theirs}.{kind}"] = rows(f"body.{b}.{name}.{kind}")
                qkv = tuple(f"body.{b}.attn.{n}_proj.{kind}" for n in "qkv")
                fused = f"{layer}.attention.query_key_value.{kind}"
                if biased:
                    ours[fused] = HeadRows(qkv, n_heads=cfg.n_heads)
        return ours
