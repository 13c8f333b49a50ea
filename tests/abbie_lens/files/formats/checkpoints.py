"""Checkpoints of any size in every published format, with random weights: `write(name, folder, **fields)`.

Only the config's fields decide which tensors there are, by the tables of the formats and not by the library's.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.abbie_lens.files.formats.references import hrm_text, loopus, ouro, raven
from tests.abbie_lens.files.formats.references_own import parcae, pondering_pythia
from tests.abbie_lens.files.formats.tensors import weights

V, D, F, H = 96, 48, 40, 4
RAVEN = {
    "model_type": "huginn_raven", "n_embd": D, "n_heads": H, "intermediate_size": F,
    "vocab_size": 90, "padded_vocab_size": V, "n_layers_in_prelude": 1, "n_layers_in_coda": 1,
    "n_layers_in_recurrent_block": 2, "mean_recurrence": 3, "block_size": 64, "bias": False,
    "injection_type": "linear", "state_init": "like-init",
}  # fmt: skip
RETROFIT = RAVEN | {
    "num_key_value_heads": 2, "head_dim": 12, "norm_eps": 1e-5, "qk_bias": False, "rope_theta": 900.0,
    "rope_base": 77.0, "tie_embeddings": False, "init_values": {"std": 0.0087, "embed_scale": 1.0},
}  # fmt: skip
USUAL = {
    "vocab_size": V, "hidden_size": D, "intermediate_size": F, "num_attention_heads": H,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "rms_norm_eps": 1e-6, "hidden_act": "silu",
}  # fmt: skip
CONFIGS: dict[str, dict[str, Any]] = {
    "huginn": RAVEN | {
        "num_key_value_heads": H, "norm_eps": 1e-6, "qk_bias": True, "rope_base": 500.0,
        "tie_embeddings": True, "init_values": {"std": 0.09, "embed_scale": D**0.5},
    },
    "retrofit_llama": RETROFIT,
    "retrofit_olmo": RETROFIT,
    "ouro": USUAL | {
        "model_type": "ouro", "num_hidden_layers": 2, "total_ut_steps": 3, "rope_theta": 900.0,
        "tie_word_embeddings": False,
    },
    "hrm_text": USUAL | {
        "model_type": "hrm_text", "num_layers_per_stack": 2, "num_hidden_layers": 24, "H_cycles": 3,
        "L_cycles": 2, "num_key_value_heads": H, "head_dim": 16, "embedding_scale": 5.0,
        "prefix_lm": True, "rope_parameters": {"rope_type": "default", "rope_theta": 900.0},
        "tie_word_embeddings": False,
    },
    "parcae": {
        "_class_name": "ParcaeConfig", "n_embd": D, "num_attention_heads": H, "num_key_value_heads": H,
        "intermediate_size": F, "vocab_size": 90, "padded_vocab_size": V, "n_layers_in_prelude": 2,
        "n_layers_in_recurrent_block": 2, "n_layers_in_coda": 2, "mean_recurrence": 3, "block_size": 64,
        "norm_eps": 1e-5, "qk_norm": True, "prelude_norm": True, "tie_embeddings": True,
        "rope_settings": {"use_rope": True, "rope_condense_ratio": 1, "rope_base": 500},
        "injection_type": "diagonal", "nonlin_name": "ReLU2", "mlp_class_name": "BaseMLP",
    },
    "pondering_pythia": {
        "model_type": "gpt_neox", "ponderinglm": True, "vocab_size": V, "hidden_size": D,
        "intermediate_size": F, "num_attention_heads": H, "num_hidden_layers": 2, "hidden_act": "gelu",
        "max_position_embeddings": 64, "layer_norm_eps": 1e-5, "use_parallel_residual": True,
        "rotary_pct": 0.5, "rotary_emb_base": 900, "pondering_steps": 3, "scale_embeds": True,
        "mutiply_pondering_steps": True, "tie_word_embeddings": False,
    },
    "loopus": {
        "model_type": "lds", "N": 3, "encoder_layer_indices": [0], "reasoning_layer_indices": [1, 2],
        "decoder_layer_indices": [3], "q_threshold": 0.9, "halting_strategy": "threshold",
        "base_config_dict": USUAL | {"model_type": "qwen3", "rope_theta": 900.0, "head_dim": 16},
    },
}  # fmt: skip
"""A config of each; tests change fields of it."""
REFERENCE: dict[str, Callable[..., dict[str, Tensor]]] = {
    "huginn": raven("huginn"), "retrofit_llama": raven("llama"), "retrofit_olmo": raven("olmo"),
    "ouro": ouro, "hrm_text": hrm_text, "parcae": parcae, "pondering_pythia": pondering_pythia,
    "loopus": loopus,
}  # fmt: skip
DEPTH = {
    "ouro": "total_ut_steps", "hrm_text": "H_cycles", "pondering_pythia": "pondering_steps", "loopus": "N",
}  # fmt: skip
"""The field that says how many iterations a model was trained with; `mean_recurrence` elsewhere."""
DRAWS = ("huginn", "retrofit_llama", "retrofit_olmo", "parcae")
"""Formats whose first state is drawn."""


def config(name: str, **fields: Any) -> dict[str, Any]:
    """Its config with some fields changed; one of ... is left out, and `base_` ones are the base model's."""
    plain = CONFIGS[name] | {k: v for k, v in fields.items() if not k.startswith("base_")}
    base = {k.removeprefix("base_"): v for k, v in fields.items() if k.startswith("base_")}
    if base:
        plain["base_config_dict"] = plain["base_config_dict"] | base
    inner = plain.get("base_config_dict")
    if inner:
        plain["base_config_dict"] = {k: v for k, v in inner.items() if v is not ...}
    return {k: v for k, v in plain.items() if v is not ...}


def write(name: str, folder: Path, seed: int = 0, gates: Any = None, **fields: Any) -> tuple[dict[str, Any], dict[str, Tensor]]:  # fmt: skip
    """A checkpoint in `folder`; its config and its tensors. `gates`: Parcae's layers with a gate, by number."""
    c = config(name, **fields)
    w = weights(name, c, seed, **({"gates": gates} if name == "parcae" else {}))
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(c))
    save_file(w, folder / "model.safetensors")
    return c, w


def first_state(name: str, c: dict[str, Any], tokens: Tensor) -> Tensor | None:
    """A state to start from, for formats that draw theirs."""
    if name not in DRAWS:
        return None
    return torch.randn(*tokens.shape, c["n_embd"], generator=torch.Generator().manual_seed(9))
