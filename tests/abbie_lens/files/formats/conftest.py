"""Published checkpoints to damage: copies of the tiny ones, with another config or other weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def changed(shared_fixtures, tmp_path):
    """`changed(format, weights=None, **fields)`: a copy with these fields of config.json; a field of ... is removed.

    `weights` gets the dict of tensors and changes it.
    """

    def make(name, weights=None, **fields):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copyfile(shared_fixtures / name / file, folder / file)
        plain = json.loads((folder / "config.json").read_text()) | fields
        plain = {key: value for key, value in plain.items() if value is not ...}
        (folder / "config.json").write_text(json.dumps(plain))
        if weights is not None:
            tensors = load_file(folder / "model.safetensors")
            weights(tensors)
            save_file(tensors, folder / "model.safetensors")
        return folder

    return make


@pytest.fixture
def raven(tmp_path):
    """`raven(theirs, rope)`: a plain model of transformers as a retrofit of one block, one, and one.

    Its adapter hands on the Head's output alone, so that one iteration is the plain model.
    """

    def make(theirs, **fields):
        c, plain = theirs.config, theirs.state_dict()
        tensors = {
            "transformer.wte.weight": plain["model.embed_tokens.weight"],
            "transformer.ln_f.weight": plain["model.norm.weight"],
            "lm_head.weight": plain["lm_head.weight"],
        }
        eye = torch.eye(c.hidden_size)
        tensors["transformer.adapter.weight"] = torch.cat([torch.zeros_like(eye), eye], dim=1)
        norms = ["input_layernorm", "post_attention_layernorm"]
        if "model.layers.0.post_feedforward_layernorm.weight" in plain:
            norms = ["post_attention_layernorm", "post_feedforward_layernorm"]
        for layer, stage in enumerate(("prelude", "core_block", "coda")):
            old, new = f"model.layers.{layer}", f"transformer.{stage}.0"
            take = lambda *names, old=old: torch.cat([plain[f"{old}.{n}.weight"] for n in names])  # noqa: E731
            tensors |= {
                f"{new}.attn.Wqkv.weight": take(*(f"self_attn.{n}_proj" for n in "qkv")),
                f"{new}.attn.proj.weight": take("self_attn.o_proj"),
                f"{new}.mlp.fc.weight": take("mlp.gate_proj", "mlp.up_proj"),
                f"{new}.mlp.proj.weight": take("mlp.down_proj"),
                f"{new}.norm_1.weight": take(norms[0]),
                f"{new}.norm_2.weight": take(norms[1]),
            }
            for n in "qk":
                if f"{old}.self_attn.{n}_norm.weight" in plain:
                    tensors[f"{new}.attn.{n}_norm.weight"] = take(f"self_attn.{n}_norm")
        config = {
            "model_type": "huginn_raven", "n_embd": c.hidden_size, "n_heads": c.num_attention_heads,
            "num_key_value_heads": c.num_key_value_heads, "intermediate_size": c.intermediate_size,
            "vocab_size": c.vocab_size, "padded_vocab_size": c.vocab_size, "n_layers_in_prelude": 1,
            "n_layers_in_recurrent_block": 1, "n_layers_in_coda": 1, "mean_recurrence": 1,
            "norm_eps": c.rms_norm_eps, "tie_embeddings": False, "qk_bias": False, "bias": False,
            "rope_base": 50000, "init_values": {"std": 0.0087, "embed_scale": 1.0},
            "max_position_embeddings": c.max_position_embeddings, "block_size": 4096, **fields,
        }  # fmt: skip
        (tmp_path / "config.json").write_text(json.dumps(config))
        tensors = {key: tensor.clone().contiguous() for key, tensor in tensors.items()}
        save_file(tensors, tmp_path / "model.safetensors")
        return tmp_path

    return make
