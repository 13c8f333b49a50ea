"""LoopUS against what the original code made of a tiny random model: states, gates, confidence, halting, logits."""

import dataclasses

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops import LoopUS
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original

BLOCK = {
    "input_layernorm.weight": "ln1.weight",
    "self_attn.q_proj.weight": "attn.q_proj.weight",
    "self_attn.k_proj.weight": "attn.k_proj.weight",
    "self_attn.v_proj.weight": "attn.v_proj.weight",
    "self_attn.o_proj.weight": "attn.o_proj.weight",
    "self_attn.q_norm.weight": "attn.q_norm.weight",
    "self_attn.k_norm.weight": "attn.k_norm.weight",
    "post_attention_layernorm.weight": "ln2.weight",
    "mlp.gate_proj.weight": "mlp.gate_proj.weight",
    "mlp.up_proj.weight": "mlp.in_proj.weight",
    "mlp.down_proj.weight": "mlp.out_proj.weight",
}
REST = {
    "encoder.embed_tokens.weight": "embed.weight",
    "decoder.norm.weight": "ln_final.weight",
    "decoder.lm_head.weight": "unembed.weight",
    "reasoning.gate.A_log": "loop.update_gate.A_log",
    "reasoning.gate.dt_input_proj.weight": "loop.update_gate.dt_in.weight",
    "reasoning.gate.delta_proj.weight": "loop.update_gate.dt_out.weight",
    "reasoning.gate.delta_proj.bias": "loop.update_gate.dt_out.bias",
    "q_head.0.weight": "loop.confidence.0.weight",
    "q_head.0.bias": "loop.confidence.0.bias",
    "q_head.1.weight": "loop.confidence.1.weight",
    "q_head.1.bias": "loop.confidence.1.bias",
}


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "loopus")


def built(original, loop):
    """Our model of the original's shape and weights, every one of them used."""
    c, base = original.config, original.config["base_config_dict"]
    cfg = LoopedConfig(
        d_model=base["hidden_size"], n_heads=base["num_attention_heads"], d_head=base["head_dim"],
        n_key_value_heads=base["num_key_value_heads"], d_mlp=base["intermediate_size"],
        d_vocab=base["vocab_size"], n_ctx=base["max_position_embeddings"],
        n_head_blocks=len(c["encoder_layer_indices"]),
        n_body_blocks=len(c["reasoning_layer_indices"]),
        n_tail_blocks=len(c["decoder_layer_indices"]),
        n_iters=c["N"], eps=base["rms_norm_eps"], qk_norm="learned",
        rotary_base=base["rope_parameters"]["rope_theta"], tie_word_embeddings=False, loop=loop,
    )  # fmt: skip
    weights = {REST[name]: w for name, w in original.weights.items() if name in REST}
    for theirs, ours in (("encoder", "head"), ("reasoning", "body"), ("decoder", "tail")):
        weights |= original.stack(f"{theirs}.layers", ours, BLOCK)
    assert len(weights) == len(original.weights)
    model = HookedLoopedTransformer(cfg)
    model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def test_states_gates_and_logits_at_every_depth(original):
    model, expected = built(original, LoopUS()), original.expected
    states = walk(model, original.tokens, 4)
    torch.testing.assert_close(states[0].h, expected["e"], **CLOSE)
    torch.testing.assert_close(torch.stack([s.h for s in states[1:]]), expected["states"], **CLOSE)
    sites = ["loop.hook_update_gate", "body.1.hook_resid_post"]
    cache = model.run_with_cache(original.tokens, n_iters=4, names_filter=sites)[1]
    torch.testing.assert_close(cache[sites[0]], expected["gate_a"], **CLOSE)
    torch.testing.assert_close(cache[sites[1]], expected["block_out"], **CLOSE)
    for r in (1, 2, 4):
        torch.testing.assert_close(
            model.readout(states[r]), expected[f"logits_r{r}"], **CLOSE, msg=f"r = {r}"
        )


@pytest.mark.parametrize(("reads", "name"), [("state", "q_halt"), ("change", "q_train")])
@torch.no_grad()
def test_confidence_of_the_last_token_as_decoded_and_as_trained(original, reads, name):
    model = built(original, LoopUS(confidence=reads))
    q = model.run_with_cache(original.tokens, n_iters=4)[1]["loop.hook_gate"][:, :, -1, 0]
    torch.testing.assert_close(q, original.expected[name], **CLOSE)
    other = {"q_halt": "q_train", "q_train": "q_halt"}[name]
    assert (q - original.expected[other]).abs().max() > 0.1, "they must be told apart"


@pytest.mark.parametrize("threshold", [0.05, 0.6])
@torch.no_grad()
def test_halting_where_the_last_tokens_confidence_passes_the_threshold(original, threshold):
    """All tokens of a sample stop with its last one, at the first q above the threshold or at the last step."""
    model = built(original, LoopUS())
    states = walk(model, original.tokens, 4)
    q = model.run_with_cache(original.tokens, n_iters=4)[1]["loop.hook_gate"][:, :, -1, 0]
    over = q > threshold
    over[-1] = True
    steps = 1 + over.int().argmax(0)
    assert torch.equal(steps, original.expected[f"halt_step{threshold}"])
    logits = torch.stack([model.readout(state) for state in states])
    stopped = logits[steps, torch.arange(len(steps))]
    torch.testing.assert_close(stopped, original.expected[f"logits_halt{threshold}"], **CLOSE)


@torch.no_grad()
def test_a_frozen_sample_is_what_it_is_alone(original):
    """The original freezes a sample; ours runs on, so a cut at its depth must not hear of the others."""
    model = built(original, LoopUS())
    for row in range(3):
        alone = model(original.tokens[row : row + 1], n_iters=2)
        torch.testing.assert_close(alone[0], original.expected["logits_r2"][row], **CLOSE)


@torch.no_grad()
def test_swapping_the_weights_of_old_and_new_is_seen(original):
    """a weighs the new value: the opposite reading is far from the original."""
    expected, h = original.expected, original.expected["e"]
    b, a = expected["block_out"][0], expected["gate_a"][0]
    torch.testing.assert_close(a * b + (1 - a) * h, expected["states"][0], **CLOSE)
    assert ((1 - a) * b + a * h - expected["states"][0]).abs().max() > 0.1
    model = built(original, dataclasses.replace(LoopUS(), update_init=0.5))
    state = model.step(model.begin(original.tokens, 4))
    torch.testing.assert_close(state.h, expected["states"][0], **CLOSE)
