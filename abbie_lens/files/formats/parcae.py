"""Parcae: a linear filter in front of the Body, squared ReLU, value embeddings. Source: arXiv 2604.12946, its code.

No model_type: config.json is the dataclass with its name. Published weights are pickles, to be converted once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, Scaled, Shapes, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format
from abbie_lens.files.formats.raven import STAGES, blocks, stage_sizes
from abbie_lens.loops import Parcae

TELL = "transformer.adapter.A_log"
MLP_FACTOR = 0.5
"""Theirs halves the squared activation; ours has it in the projection after it."""


class ParcaeFormat(Format):
    """Adjacent rotary pairs; queries and keys are normed after rotation, without weights."""

    name = "parcae"
    ids = tuple(f"SandyResearch/parcae-{size}" for size in ("140m", "370m", "770m", "1.3b"))
    inert = (
        *(
            "hf_config",
            "padding_multiple",
            "attn_impl",
            "init_strategy",
            "init_orthogonal",
            "strategy",
        ),
        *("skip_initialization", "use_fused_head", "activation_checkpoint_impl", "sampling_scheme"),
        *(
            "mean_backprop_depth",
            "lockstep_n",
            "lockstep_k",
            "curriculum_target",
            "model_class_name",
        ),
        *("recurrent_iteration_method", "vocab_size"),
    )
    dead = r"freqs_cis"

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By the name of the dataclass."""
        return plain.get("_class_name") == "ParcaeConfig"

    def objection(self, keys: Set[str]) -> str | None:
        """By the filter."""
        return None if TELL in keys else f"no {TELL}"

    def config(self, fields: Fields, stored: Shapes) -> LoopedConfig:
        """Ours."""
        for name, only in {
            "injection_type": "diagonal", "state_init": "like-init", "nonlin_name": "ReLU2", "bias": False,
            "qk_bias": False, "mlp_class_name": "BaseMLP", "block_class_name": "TransformerPreNormBlock",
            "norm_class_name": "RMSNorm", "use_abacus": False, "debias_attention": False,
            "center_attention": False, "simple_ops": False, "mup_model_scaling_factor": 1,
            "logit_softcap": None, "clip_qkv": None, "randomize_positions_from": None,
        }.items():  # fmt: skip
            fields.only(name, only)
        width, heads = fields.integer("n_embd"), fields.integer("num_attention_heads")
        mlp, groups = (
            fields.integer("intermediate_size"),
            fields.integer("num_key_value_heads", heads),
        )
        fields.only("recurrent_embedding_dimension", None, width)
        fields.only("recurrent_intermediation_embedding_dimension", None, mlp)
        fields.only("recurrent_num_attention_heads", None, heads)
        rope = fields.part("rope_settings")
        rope.only("use_rope", True)
        rope.only("rope_condense_ratio", 1)
        stages = stage_sizes(fields)
        embeds = tuple(b for b, keys in enumerate(_value_keys(stages)) if keys <= stored.keys())
        n = sum(stages.values())
        every_other = embeds == tuple(range((n - 1) % 2, n, 2))
        if embeds and groups < heads:
            fields.refuse("num_key_value_heads", "with value embeddings expected as many as heads")
        return LoopedConfig(
            d_model=width,
            n_heads=heads,
            n_key_value_heads=groups,
            d_mlp=mlp,
            d_vocab=fields.integer("padded_vocab_size"),
            n_ctx=fields.integer("block_size"),
            **stages,
            n_iters=fields.integer("mean_recurrence"),
            act_fn="relu2",
            gated_mlp=False,
            qk_norm="after_rotary" if fields.flag("qk_norm") else "none",
            rotary_base=rope.number("rope_base"),
            rotary_adjacent_pairs=True,
            value_embeddings=("alternate" if every_other else embeds) if embeds else "none",
            tie_word_embeddings=fields.flag("tie_embeddings"),
            eps=fields.number("norm_eps"),
            loop=Parcae(input_norm=fields.flag("prelude_norm")),
        )

    def entries(self, cfg: LoopedConfig, stored: Shapes) -> Entries:
        """Blocks, filter, embeddings of tokens and values, norms and head."""
        ours: Entries = {
            "transformer.wte.weight": rows("embed.weight"),
            "lm_head.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
            "transformer.ln_f.weight": rows("ln_final.weight"),
            "transformer.C.weight": rows("loop.readout.weight"),
            "transformer.adapter.B": rows("loop.injection.B.weight"),
            TELL: rows("loop.injection.A_log"),
            "transformer.adapter.dt_bias": rows("loop.injection.dt_bias"),
        }
        if cfg.loop.input_norm:  # type: ignore[attr-defined]
            ours["transformer.ln_prelude.weight"] = rows("loop.ln_input.weight")
        for number, (theirs, block) in enumerate(blocks(cfg)):
            for n in "qkv":
                ours[f"{theirs}.attn.c_{n}.weight"] = rows(f"{block}.attn.{n}_proj.weight")
            out = f"{block}.mlp.out_proj.weight"
            ours |= {
                f"{theirs}.attn.c_proj.weight": rows(f"{block}.attn.o_proj.weight"),
                f"{theirs}.mlp.fc.weight": rows(f"{block}.mlp.in_proj.weight"),
                f"{theirs}.mlp.proj.weight": Scaled((out,), factor=MLP_FACTOR),
                f"{theirs}.norm_1.weight": rows(f"{block}.ln1.weight"),
                f"{theirs}.norm_2.weight": rows(f"{block}.ln2.weight"),
            }
            value, gate = f"value_embeds.{number}.weight", f"{theirs}.attn.ve_gate.weight"
            if number in cfg.value_embedding_blocks:
                ours[value] = rows(f"{block}.attn.value_embed.weight")
                ours[gate] = rows(f"{block}.attn.value_embed.gate.weight")
        return ours

    def is_dead(self, key: str, stored: Shapes) -> bool:
        """Besides the buffer: value embeddings in a block without their gate, and a gate without them."""
        sizes = {f"n_{ours}_blocks": _depth(stored, theirs) for theirs, ours in STAGES.items()}
        halves = (keys for keys in _value_keys(sizes) if key in keys)
        return super().is_dead(key, stored) or any(not keys <= stored.keys() for keys in halves)


def _value_keys(sizes: Mapping[str, int]) -> list[set[str]]:
    """The two keys that a block with value embeddings has, of every block; `sizes`: numbers of blocks."""
    names = [
        f"transformer.{theirs}.{b}"
        for theirs, ours in STAGES.items()
        for b in range(sizes[f"n_{ours}_blocks"])
    ]
    return [
        {f"value_embeds.{b}.weight", f"{name}.attn.ve_gate.weight"} for b, name in enumerate(names)
    ]


def _depth(stored: Shapes, stage: str) -> int:
    """Blocks that a stage has in the file."""
    found = (re.match(rf"transformer\.{stage}\.(\d+)\.", key) for key in stored)
    return max((int(each[1]) + 1 for each in found if each), default=0)
