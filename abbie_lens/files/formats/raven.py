"""The format that Huginn and the models retrofitted with recurrence share: class RavenForCausalLM.

One model_type, several kinds of blocks: which one it is, the keys of a block say. Sources: arXiv 2502.05171,
2511.07384 and their public code.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, HeadBiases, rows
from abbie_lens.files.formats.fields import Fields
from abbie_lens.files.formats.format import Format

STAGES = {"prelude": "head", "core_block": "body", "coda": "tail"}
FIRST = "transformer.core_block.0"


def blocks(cfg: LoopedConfig) -> Iterator[tuple[str, str]]:
    """Their name and ours of every block, in the order of the model."""
    for theirs, ours in STAGES.items():
        for b in range(getattr(cfg, f"n_{ours}_blocks")):
            yield f"transformer.{theirs}.{b}", f"{ours}.{b}"


def stage_sizes(fields: Fields) -> dict[str, Any]:
    """Our fields of the numbers of blocks."""
    names = {"head": "prelude", "body": "recurrent_block", "tail": "coda"}
    return {
        f"n_{ours}_blocks": fields.integer(f"n_layers_in_{theirs}", least=int(ours == "body"))
        for ours, theirs in names.items()
    }


def init_scale(std: float, usual: float) -> float:
    """s of the drawn h_0 = s TruncN(0, 2/5), from its standard deviation; `usual` where rounding alone differs."""
    scale = std / (2 / 5) ** 0.5
    return usual if math.isclose(scale, usual, rel_tol=1e-6) else scale


class Raven(Format):
    """What all of them have in common."""

    norms: Sequence[str] = ()
    """Our names of norm_1, norm_2, …"""
    inert = (
        *("activation_checkpoint_impl", "architecture_class_name", "block_class_name"),
        *("effective_expected_depth", "init_orthogonal", "init_strategy", "mean_backprop_depth"),
        *("n_layers", "padding_multiple", "sampling_scheme", "state_init", "test_time_noise_type"),
        *("block_size", "max_position_embeddings", "rope_base"),
    )

    def claims(self, plain: Mapping[str, Any]) -> bool:
        """By model_type."""
        return plain.get("model_type") == "huginn_raven"

    def objection(self, keys: Set[str]) -> str | None:
        """By the norms and biases of a block."""
        has = lambda name: f"{FIRST}.{name}" in keys  # noqa: E731
        if not has("norm_1.weight"):
            return f"no {FIRST}.norm_1.weight"
        four, biased = has("norm_4.weight") or has("norm_3.weight"), has("attn.qk_bias")
        if four and not biased:
            return (
                f"four norms in a block but no {FIRST}.attn.qk_bias, as a retrofit of another "
                "model has, with other mathematics"
            )
        wanted = len(self.norms) == 4
        if four != wanted or biased != wanted:
            return f"{'no' if wanted else 'has'} {FIRST}.norm_4.weight or {FIRST}.attn.qk_bias"
        return self.more_objection(has("attn.q_norm.weight"))

    def more_objection(self, normed_queries: bool) -> str | None:
        """Why a block with or without a norm of its queries is not of this format."""
        return f"has {FIRST}.attn.q_norm.weight" if normed_queries else None

    def shape(self, fields: Fields) -> dict[str, Any]:
        """Our fields that all read in the same way."""
        for name, only in {
            "bias": False, "injection_type": "linear", "nonlin_name": "SiLU", "mlp_class_name": "GatedMLP",
            "norm_class_name": "RMSNorm_llama", "test_time_noise": 0, "initial_state_mode": "random",
            "state_init": "like-init", "block_class_name": "SandwichBlock",
        }.items():  # fmt: skip
            fields.only(name, only)
        heads = fields.agreeing("n_heads", "num_attention_heads")
        vocabulary = fields.integer("vocab_size", None)
        padded = fields.integer("padded_vocab_size", vocabulary)
        if vocabulary is not None and vocabulary > padded:
            fields.refuse("vocab_size", f"more than padded_vocab_size={padded}")
        is_tied = fields.agreeing("tie_embeddings", "tie_word_embeddings")
        return {
            "d_model": fields.agreeing("n_embd", "hidden_size"),
            "n_heads": heads,
            "n_key_value_heads": fields.integer("num_key_value_heads", heads),
            "d_head": fields.integer("head_dim", None),
            "d_mlp": fields.integer("intermediate_size"),
            "d_vocab": padded if padded is not None else fields.integer("padded_vocab_size"),
            "n_iters": fields.integer("mean_recurrence"),
            "eps": fields.number("norm_eps"),
            "tie_word_embeddings": bool(is_tied),
            **stage_sizes(fields),
        }

    def entries(self, cfg: LoopedConfig, stored: Mapping[str, tuple[int, ...]]) -> Entries:
        """Blocks, embedding, adapter, final norm and head."""
        ours: Entries = {
            "transformer.wte.weight": rows("embed.weight"),
            "transformer.ln_f.weight": rows("ln_final.weight"),
            "transformer.adapter.weight": rows("loop.adapter.weight"),
            "lm_head.weight": rows("unembed.weight", optional=cfg.tie_word_embeddings),
        }
        for theirs, block in blocks(cfg):
            attn, mlp = f"{block}.attn", f"{block}.mlp"
            ours |= {
                f"{theirs}.attn.Wqkv.weight": rows(*(f"{attn}.{n}_proj.weight" for n in "qkv")),
                f"{theirs}.attn.proj.weight": rows(f"{attn}.o_proj.weight"),
                f"{theirs}.mlp.fc.weight": rows(f"{mlp}.gate_proj.weight", f"{mlp}.in_proj.weight"),
                f"{theirs}.mlp.proj.weight": rows(f"{mlp}.out_proj.weight"),
            }
            for i, norm in enumerate(self.norms, 1):
                ours[f"{theirs}.norm_{i}.weight"] = rows(f"{block}.{norm}.weight")
            if cfg.use_qk_bias:
                names = (f"{attn}.q_proj.bias", f"{attn}.k_proj.bias")
                ours[f"{theirs}.attn.qk_bias"] = HeadBiases(names, n_heads=cfg.n_heads)
            if cfg.qk_norm == "learned_joint":
                for n in "qk":
                    ours[f"{theirs}.attn.{n}_norm.weight"] = rows(f"{attn}.{n}_norm.weight")
        return ours
