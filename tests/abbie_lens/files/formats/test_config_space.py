"""Published formats in other sizes and with other flags than any fixture: equal to a second implementation."""

import pytest
import torch
from safetensors.torch import save_file

from abbie_lens import load
from tests.abbie_lens.files.formats.checkpoints import (
    CONFIGS,
    DEPTH,
    DRAWS,
    REFERENCE,
    first_state,
    write,
)
from tests.abbie_lens.originals import CLOSE, Original

TOKENS = torch.randint(0, 90, (2, 11), generator=torch.Generator().manual_seed(4))
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
SCATTERED = torch.tensor([[1] * 5 + [0] * 6, [1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 0]])


def stages(prelude, core, coda):
    """The fields of so many blocks in each stage."""
    names = ("prelude", "recurrent_block", "coda")
    return {f"n_layers_in_{n}": k for n, k in zip(names, (prelude, core, coda), strict=True)}


RAVEN = [
    {}, stages(0, 1, 0), stages(0, 2, 2), stages(3, 3, 0), {"norm_eps": 0.05}, {"mean_recurrence": 7},
    {"n_heads": 8, "num_key_value_heads": 8, "head_dim": 6}, {"n_heads": 1, "num_key_value_heads": 1, "head_dim": 48},
    {"n_heads": ..., "num_attention_heads": 4}, {"vocab_size": 96}, {"vocab_size": ...},
]  # fmt: skip
RETROFIT = [
    *RAVEN, {"num_key_value_heads": 1}, {"num_key_value_heads": 4}, {"head_dim": 20}, {"head_dim": ...},
    {"rope_theta": 5.0}, {"rope_base": 5.0}, {"rope_scaling": LLAMA3}, {"tie_embeddings": True},
    {"init_values": {"std": 0.1, "embed_scale": 3.0}}, {"max_position_embeddings": 32, "block_size": 8},
]  # fmt: skip
USUAL = [
    {}, {"num_key_value_heads": 1}, {"num_key_value_heads": 4}, {"head_dim": 20}, {"rms_norm_eps": 0.05},
    {"rope_theta": 5.0}, {"hidden_act": "gelu"}, {"attention_bias": True}, {"mlp_bias": True},
    {"attention_bias": True, "mlp_bias": True}, {"rope_scaling": LLAMA3}, {"rope_theta": ..., "rope_parameters": {"rope_theta": 50.0, **LLAMA3}},
    {"num_attention_heads": 2}, {"hidden_size": 64, "head_dim": 8}, {"intermediate_size": 24}, {"hidden_act": "gelu_new"},
]  # fmt: skip
SPACE = {
    "huginn": [*RAVEN, {"rope_base": 7.0}, {"tie_embeddings": False}, {"init_values": {"embed_scale": 2.0}}],
    "retrofit_llama": RETROFIT,
    "retrofit_olmo": RETROFIT,
    "ouro": [
        *USUAL, {"num_hidden_layers": 1}, {"num_hidden_layers": 3}, {"tie_word_embeddings": True},
        {"total_ut_steps": 1}, {"use_sliding_window": False, "sliding_window": 4096},
    ],
    "hrm_text": [
        {}, {"num_layers_per_stack": 1}, {"num_layers_per_stack": 3}, {"num_layers_per_stack": ..., "num_hidden_layers": 1},
        {"H_cycles": 1, "L_cycles": 4}, {"L_cycles": 1}, {"head_dim": 20}, {"head_dim": 10}, {"prefix_lm": False},
        {"embedding_scale": None, "initializer_range": 0.2}, {"hidden_act": "gelu"}, {"tie_word_embeddings": True},
        {"attention_bias": True}, {"mlp_bias": True}, {"rms_norm_eps": 0.05}, {"num_attention_heads": 2, "num_key_value_heads": ...},
        {"rope_parameters": {"rope_theta": 50.0, **LLAMA3}}, {"num_key_value_heads": ...},
    ],
    "parcae": [
        {}, stages(0, 1, 0), stages(2, 1, 2), stages(1, 3, 0), stages(0, 2, 3), {"qk_norm": False},
        {"prelude_norm": False}, {"tie_embeddings": False}, {"norm_eps": 0.05}, {"gates": ()},
        {"gates": (), "num_key_value_heads": 2}, {"gates": (1, 2)}, {"gates": (0, 2, 4)},
        {**stages(2, 1, 2), "gates": (0, 2, 3)}, {**stages(2, 1, 2), "gates": (1, 4)},
        {"num_attention_heads": 8, "num_key_value_heads": 8}, {"mean_recurrence": 6},
        {"rope_settings": {"use_rope": True, "rope_condense_ratio": 1, "rope_base": 7}},
    ],
    "pondering_pythia": [
        {}, {"use_parallel_residual": False}, {"rotary_pct": 1.0}, {"rotary_pct": 0.25, "num_attention_heads": 2},
        {"attention_bias": False}, {"attention_bias": False, "use_parallel_residual": False}, {"hidden_act": "gelu_new"},
        {"mutiply_pondering_steps": False}, {"scale_embeds": False}, {"tie_word_embeddings": True},
        {"layer_norm_eps": 0.05}, {"num_hidden_layers": 3}, {"rotary_emb_base": 7}, {"pondering_steps": 1},
        {"rotary_pct": ..., "rotary_emb_base": ..., "rope_parameters": {"rope_theta": 7.0, "partial_rotary_factor": 0.5}},
    ],
    "loopus": [
        *({f"base_{key}": value for key, value in fields.items()} for fields in USUAL if "mlp_bias" not in fields),
        {"encoder_layer_indices": []}, {"decoder_layer_indices": []}, {"base_model_type": "llama"},
        {"base_model_type": "llama", "base_attention_bias": True, "base_mlp_bias": True}, {"N": 1},
        {"encoder_layer_indices": [0, 1], "reasoning_layer_indices": [2], "decoder_layer_indices": [3, 4, 5]},
        {"base_hidden_size": 56, "base_head_dim": 12},
    ],
}  # fmt: skip
"""Fields that differ from the config of each format in `checkpoints`."""
EVERY = [(name, fields) for name, space in SPACE.items() for fields in space]


def said(value):
    """A case in the name of its test."""
    if not isinstance(value, dict):
        return str(value)
    return (
        ",".join(f"{k}={v}" for k, v in value.items()).replace("n_layers_in_", "")[:60] or "as-is"
    )


@torch.no_grad()
def compare(model, name, c, w, r, types=None):
    """Every site and the logits of a run at depth r, against the reference."""
    s0 = first_state(name, c, TOKENS)
    want = REFERENCE[name](c, w, TOKENS, r, s0, types)
    start = {} if s0 is None else {"initial_state": s0}
    start |= {} if types is None else {"token_type_ids": types}
    sites = [site for site in want if site != "logits"]
    logits, cache = model.run_with_cache(TOKENS, n_iters=r, names_filter=sites, **start)
    for site in sites:
        torch.testing.assert_close(
            cache[site], want[site], **CLOSE, msg=lambda m, s=site: f"{s}: {m}"
        )
    torch.testing.assert_close(logits, want["logits"], **CLOSE)


@pytest.mark.parametrize(("name", "fields"), EVERY, ids=said)
def test_equal_to_the_reference(tmp_path, name, fields):
    c, w = write(name, tmp_path, **fields)
    model = load(tmp_path, device="cpu")
    trained = c[DEPTH.get(name, "mean_recurrence")]
    assert model.cfg.n_iters == trained and model.load_report.complete
    compare(model, name, c, w, trained)


@pytest.mark.parametrize("name", CONFIGS)
def test_at_other_depths_than_the_trained_one(tmp_path, name):
    c, w = write(name, tmp_path, seed=1)
    model = load(tmp_path, device="cpu")
    for r in (1, 5):
        compare(model, name, c, w, r)


@pytest.mark.parametrize(
    "fields", [{}, {"num_layers_per_stack": 1, "attention_bias": True}], ids=said
)
@pytest.mark.parametrize("types", [SCATTERED, torch.ones_like(SCATTERED)], ids=["scattered", "all"])
def test_prefixes_that_attend_both_ways(tmp_path, fields, types):
    c, w = write("hrm_text", tmp_path, **fields)
    compare(load(tmp_path, device="cpu"), "hrm_text", c, w, 3, types)


@pytest.mark.parametrize("name", CONFIGS)
def test_stored_in_half_and_run_in_single_precision(tmp_path, name):
    c, w = write(name, tmp_path, torch_dtype="bfloat16")
    half = {key: tensor.bfloat16() for key, tensor in w.items()}
    save_file(half, tmp_path / "model.safetensors")
    assert load(tmp_path, device="cpu").dtype == torch.bfloat16
    model = load(tmp_path, device="cpu", dtype="float32")
    compare(model, name, c, {key: tensor.float() for key, tensor in half.items()}, 2)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("parcae", {**stages(2, 1, 2), "gates": (0, 2, 3)}), ("ouro", {"attention_bias": True}),
        ("pondering_pythia", {"attention_bias": False}), ("hrm_text", {"head_dim": 20}),
        ("retrofit_olmo", {"rope_scaling": LLAMA3}), ("loopus", {"encoder_layer_indices": []}),
    ],
    ids=said,
)  # fmt: skip
def test_saved_as_one_of_ours_it_is_the_same(tmp_path, name, fields):
    c, w = write(name, tmp_path / "theirs", **fields)
    model = load(tmp_path / "theirs", device="cpu")
    again = load(model.save_pretrained(tmp_path / "ours"), device="cpu")
    assert again.cfg == model.cfg
    compare(again, name, c, w, 2)


def test_halves_of_value_embeddings_are_reported(tmp_path):
    """An odd core, and an even number of iterations in the numbering of the gates."""
    write("parcae", tmp_path, **stages(2, 1, 2), gates=(0, 2, 3))
    model = load(tmp_path, device="cpu")
    assert model.cfg.value_embeddings == (0, 2)
    halves = {"value_embeds.4.weight", "transformer.coda.0.attn.ve_gate.weight"}
    assert set(model.load_report.dropped) == halves


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "retrofit_olmo"])
@torch.no_grad()
def test_the_references_are_the_originals_too(shared_fixtures, name):
    original = Original.read(shared_fixtures / name)
    r = max(original.inputs["n_iters"])
    s0 = original.expected["s0"] if name in DRAWS else None
    got = REFERENCE[name](original.config, original.weights, original.tokens, r, s0, None)
    logits = {
        "ouro": f"logits_T{r}",
        "hrm_text": "logits_H2_L3",
        "pondering_pythia": f"logits_k{r}",
    }
    expected = original.expected[logits.get(name, f"logits_r{r}")]
    torch.testing.assert_close(got["logits"], expected, **CLOSE)
