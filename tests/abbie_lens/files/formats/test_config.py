"""config.json of a published model: read and not assumed, and refused with the reason where we cannot follow it."""

import json

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import CheckpointError
from tests.abbie_lens.originals import CLOSE, Original

EPS = {
    "huginn": "norm_eps", "retrofit_llama": "norm_eps", "parcae": "norm_eps", "ouro": "rms_norm_eps",
    "hrm_text": "rms_norm_eps", "pondering_pythia": "layer_norm_eps",
}  # fmt: skip
DEPTH = {
    "huginn": "mean_recurrence", "retrofit_llama": "mean_recurrence", "parcae": "mean_recurrence",
    "ouro": "total_ut_steps", "hrm_text": "H_cycles", "pondering_pythia": "pondering_steps",
    "loopus": "N",
}  # fmt: skip
REFUSED = [
    ("huginn", {"injection_type": "add"}, "injection_type='add': supported is 'linear'"),
    ("huginn", {"qk_bias": False}, "qk_bias=False"),
    ("huginn", {"mean_recurrence": ...}, "'mean_recurrence' is missing"),
    ("huginn", {"mean_recurrence": "32"}, "mean_recurrence='32': expected an integer"),
    ("huginn", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0: a field"),
    ("huginn", {"test_time_noise": 0.1}, "test_time_noise=0.1"),
    ("huginn", {"num_key_value_heads": 2}, "num_key_value_heads=2: qk_bias"),
    (
        "huginn",
        {"padded_vocab_size": 192},
        r"wte.weight is \[128, 48\], config.json says \[192, 48\]",
    ),
    ("huginn", {"n_layers_in_coda": 2}, r"weights missing for huginn: transformer.coda.1"),
    ("huginn", {"n_layers_in_coda": 0}, r"no place for in huginn: transformer.coda.0"),
    ("huginn", {"quantization_config": {"bits": 4}}, "quantization_config="),
    ("retrofit_llama", {"initial_state_mode": "skip-adapter"}, "initial_state_mode='skip-adapter'"),
    ("retrofit_llama", {"num_key_value_heads": 4}, r"Wqkv.weight is \[96, 48\]"),
    ("retrofit_llama", {"vocab_size": 129}, "vocab_size=129: more than padded_vocab_size=128"),
    ("retrofit_llama", {"tie_embeddings": True}, "tie_word_embeddings=False: contradicts"),
    ("ouro", {"use_sliding_window": True, "sliding_window": 64}, "sliding_window=64"),
    ("ouro", {"layer_types": ["full_attention", "sliding_attention"]}, "layer_types="),
    ("ouro", {"head_dim": 24}, r"q_proj.weight is \[48, 48\], config.json says \[96, 48\]"),
    ("ouro", {"hidden_act": "xielu"}, "hidden_act='xielu': supported are"),
    ("ouro", {"tie_word_embeddings": True}, "lm_head.weight is another tensor than the embedding"),
    ("hrm_text", {"attention_bias": True}, "weights missing for hrm_text: .*gqkv_proj.bias"),
    (
        "hrm_text",
        {"num_layers_per_stack": 3},
        r"weights missing for hrm_text: model.H_module.layers.2",
    ),
    ("parcae", {"injection_type": "linear"}, "injection_type='linear'"),
    ("parcae", {"num_key_value_heads": 2}, "num_key_value_heads=2: with value embeddings"),
    ("parcae", {"logit_softcap": 30.0}, "logit_softcap=30.0"),
    ("parcae", {"recurrent_embedding_dimension": 64}, "recurrent_embedding_dimension=64"),
    ("pondering_pythia", {"attention_bias": False}, "no place for in .*attention.dense.bias"),
    ("pondering_pythia", {"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5: contradicts"),
    ("pondering_pythia", {"mutiply_pondering_steps": ...}, "'mutiply_pondering_steps' is missing"),
    ("loopus", {"vocab_size": 256}, "vocab_size=256"),
    ("loopus", {"base_config_dict": {"model_type": "gemma2"}}, "model_type='gemma2'"),
    ("loopus", {"reasoning_layer_indices": [1]}, "no place for in loopus: reasoning.layers.1"),
]


@pytest.mark.parametrize(("name", "fields", "message"), REFUSED)
def test_refused(changed, name, fields, message):
    with pytest.raises(CheckpointError, match=message) as caught:
        load(changed(name, **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", EPS)
def test_the_epsilon_is_read(changed, name):
    model = load(changed(name, **{EPS[name]: 3e-4}), device="cpu")
    assert model.cfg.eps == model.ln_final.eps == 3e-4


@pytest.mark.parametrize("name", DEPTH)
def test_n_iters_is_the_familys_own_field(changed, name):
    assert load(changed(name, **{DEPTH[name]: 5}), device="cpu").cfg.n_iters == 5


@pytest.mark.parametrize(
    ("fields", "logits"),
    [
        ({"mutiply_pondering_steps": False}, "logits_nomultiply_k3"),
        ({"mutiply_pondering_steps": False, "scale_embeds": False}, "logits_nomultiply_noscale_k3"),
    ],
)
@torch.no_grad()
def test_the_scales_of_a_pondering_model_are_read(changed, shared_fixtures, fields, logits):
    original = Original.read(shared_fixtures / "pondering_pythia")
    model = load(changed("pondering_pythia", **fields), device="cpu")
    torch.testing.assert_close(model(original.tokens), original.expected[logits], **CLOSE)


@pytest.mark.parametrize(("outer", "inner"), [(1, 3), (2, 1)])
@torch.no_grad()
def test_the_cycles_of_hrm_are_read(changed, shared_fixtures, outer, inner):
    original = Original.read(shared_fixtures / "hrm_text")
    model = load(changed("hrm_text", H_cycles=outer, L_cycles=inner), device="cpu")
    expected = original.expected[f"logits_H{outer}_L{inner}"]
    torch.testing.assert_close(model(original.tokens), expected, **CLOSE)


def test_hrm_without_the_depth_of_a_stack_and_the_scale(changed):
    fields = {"num_layers_per_stack": ..., "num_hidden_layers": 2, "embedding_scale": ...}
    cfg = load(changed("hrm_text", **fields, initializer_range=0.1), device="cpu").cfg
    assert (cfg.n_body_blocks, cfg.loop.n_low_blocks, cfg.embed_scale) == (4, 2, 10.0)


def test_a_field_that_is_off_is_no_obstacle(changed):
    load(changed("ouro", some_new_feature=False, another=None, third=[]), device="cpu")


def test_dtype_is_the_configs(changed):
    assert load(changed("ouro", torch_dtype="bfloat16"), device="cpu").cfg.dtype == "bfloat16"


def test_an_ordinary_pythia_is_none_of_them(changed):
    with pytest.raises(CheckpointError, match="model_type is 'gpt_neox'"):
        load(changed("pondering_pythia", ponderinglm=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: [w.pop(k) for k in list(w) if k.endswith("qk_bias")], "four norms in a block"),
        (
            lambda w: [w.pop(k) for k in list(w) if "norm_1" in k],
            "no transformer.core_block.0.norm_1",
        ),
    ],
)
def test_keys_decide_beside_the_config(changed, change, message):
    with pytest.raises(CheckpointError, match=message):
        load(changed("huginn", change))


def test_config_that_is_not_json(changed):
    folder = changed("ouro")
    (folder / "config.json").write_text(json.dumps([1]))
    with pytest.raises(CheckpointError, match="expected a JSON object"):
        load(folder)
