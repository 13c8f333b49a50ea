"""What several formats say in the same words: rotary positions, windows, activations, Llama's layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abbie_lens.config import LoopedConfig
from abbie_lens.files.formats.entries import Entries, rows
from abbie_lens.files.formats.fields import REQUIRED, Fields

ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "relu2": "relu2",
}
"""transformers' names of the activations that we have."""


def rope(fields: Fields) -> dict[str, Any]:
    """Our fields of the rotary base and its scaling, from rope_parameters or from rope_theta and rope_scaling.

    Errors: CheckpointError for a scaling other than `llama3`.
    """
    name = "rope_parameters" if fields.value("rope_parameters", None) else "rope_scaling"
    if name == "rope_parameters" and fields.value("rope_scaling", None):
        fields.refuse("rope_scaling", "contradicts rope_parameters; expected one of the two")
    settings = fields.part(name)
    inside, outside = settings.number("rope_theta", None), fields.number("rope_theta", None)
    if inside is not None and outside is not None and inside != outside:
        fields.refuse("rope_theta", f"contradicts {name}, where it is {inside}")
    base = fields.number("rope_theta") if inside is None else inside
    old = settings.value("type", "default")
    kind = settings.value("rope_type", old)
    scaled = {"rotary_base": base}
    if kind == "default":
        return scaled
    if kind != "llama3":
        fields.refuse(name, "supported rope types are 'default' and 'llama3'")
    return scaled | {
        "use_NTK_by_parts_rope": True,
        "NTK_by_parts_factor": settings.number("factor"),
        "NTK_by_parts_low_freq_factor": settings.number("low_freq_factor"),
        "NTK_by_parts_high_freq_factor": settings.number("high_freq_factor"),
        "NTK_original_ctx_len": settings.integer("original_max_position_embeddings"),
    }


def require_full_attention(fields: Fields) -> None:
    """Errors: CheckpointError for windows: our attention sees all that came before."""
    if any(kind != "full_attention" for kind in fields.items("layer_types", ())):
        fields.refuse("layer_types", "supported are layers of 'full_attention' alone")
    window = fields.value("sliding_window", None)
    if fields.flag("use_sliding_window", window is not None) and window is not None:
        fields.refuse("sliding_window", "sliding windows are not supported")


def llama_shape(fields: Fields) -> dict[str, Any]:
    """Our fields of a model whose config has transformers' usual names.

    Errors: CheckpointError for windows, partial rotation and scalings that we do not have.
    """
    require_full_attention(fields)
    fields.only("partial_rotary_factor", 1.0)
    heads = fields.integer("num_attention_heads")
    return {
        "d_model": fields.integer("hidden_size"),
        "n_heads": heads,
        "n_key_value_heads": fields.integer("num_key_value_heads", heads),
        "d_head": fields.integer("head_dim", None),
        "d_mlp": fields.integer("intermediate_size"),
        "d_vocab": fields.integer("vocab_size"),
        "n_ctx": fields.integer("max_position_embeddings"),
        "eps": fields.number("rms_norm_eps"),
        "act_fn": fields.choice("hidden_act", ACTIVATIONS),
        **biases(fields.flag("attention_bias", False), fields.flag("mlp_bias", False)),
        **rope(fields),
    }


def biases(attention: bool, mlp: bool) -> dict[str, Any]:
    """Our fields of biases in attention and in the MLP."""
    return {"use_bias": mlp, "use_attn_bias": None if attention == mlp else attention}


def llama_layer(cfg: LoopedConfig, theirs: str, ours: str, norms: Mapping[str, str]) -> Entries:
    """The tensors of one layer; `norms`: their name -> ours."""
    attn = {f"self_attn.{n}_proj": f"attn.{n}_proj" for n in "qkvo"}
    mlp = {
        "mlp.gate_proj": "mlp.gate_proj",
        "mlp.up_proj": "mlp.in_proj",
        "mlp.down_proj": "mlp.out_proj",
    }
    parts = attn | mlp | dict(norms)
    biased = (attn if cfg.attn_bias else {}) | (mlp if cfg.use_bias else {})
    return {
        f"{theirs}.{a}.{kind}": rows(f"{ours}.{b}.{kind}")
        for kind, there in (("weight", parts), ("bias", biased))
        for a, b in there.items()
    }


def tied(fields: Fields, name: str, default: Any = REQUIRED) -> dict[str, Any]:
    """Our field of whether the unembedding is the embedding."""
    return {"tie_word_embeddings": fields.flag(name, default)}
