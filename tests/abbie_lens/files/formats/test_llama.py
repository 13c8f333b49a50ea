"""Plain Llama and Mistral as our own stack, held to transformers' classes on tiny random models."""

import json

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import CheckpointError
from tests.abbie_lens.files.formats.test_plain_models import LLAMA3, SIZES, TOKENS, randomised

DEFAULT = {"rope_type": "default", "rope_theta": 500.0}


def saved(folder, kind="Llama", rope=DEFAULT, **changes):
    import transformers as hf

    torch.manual_seed(0)
    config = getattr(hf, f"{kind}Config")(**SIZES | changes, rope_parameters=rope)
    theirs = randomised(getattr(hf, f"{kind}ForCausalLM")(config))
    theirs.save_pretrained(folder)
    return theirs


@pytest.mark.parametrize(
    "changes",
    [
        dict(),
        dict(tie_word_embeddings=True),
        dict(num_key_value_heads=4, head_dim=16),
        dict(num_key_value_heads=1, hidden_act="gelu"),
        dict(rope={"rope_theta": 1000.0, **LLAMA3}),
        dict(kind="Mistral", sliding_window=None),
        dict(attention_bias=True),
        dict(mlp_bias=True),
    ],
)
@torch.no_grad()
def test_one_iteration_is_the_published_model(tmp_path, changes):
    theirs = saved(tmp_path, **changes)
    model = load(tmp_path, device="cpu")
    assert (model.cfg.loop.family, model.cfg.n_iters, model.cfg.n_body_blocks) == ("std", 1, 3)
    torch.testing.assert_close(model(TOKENS), theirs(TOKENS).logits, atol=1e-4, rtol=1e-4)
    assert not model.load_report.unused


@torch.no_grad()
def test_its_depth_is_the_whole_stack_again(tmp_path):
    theirs = saved(tmp_path)
    model = load(tmp_path, device="cpu")
    _, cache = model.run_with_cache(TOKENS, n_iters=2, names_filter="loop.hook_state")
    states = cache["loop.hook_state"]
    plain = theirs(TOKENS, output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[0], plain[0])
    # transformers' own last state is normed; that of a second pass starts at the one before
    torch.testing.assert_close(model.ln_final(states[1]), plain[-1], atol=1e-4, rtol=1e-4)
    again = theirs(inputs_embeds=states[1]).logits
    torch.testing.assert_close(model(TOKENS, n_iters=2), again, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (
            dict(attention_bias=True),
            r"weights missing for llama: model\.layers\.0\.self_attn\.k_proj\.bias",
        ),
        (dict(mlp_bias=True), r"weights missing for llama: model\.layers\.0\.mlp\.down_proj\.bias"),
        (dict(sliding_window=16), "sliding_window=16"),
        (dict(partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
        (dict(rope_interleaved=True), "rope_interleaved=True: a field that the format llama"),
        (dict(logit_scale=0.5), "logit_scale=0.5"),
        (dict(num_key_value_heads=3), "n_key_value_heads=3"),
        (dict(rope_parameters={"rope_type": "yarn", "rope_theta": 1e4}), "rope_parameters=.*yarn"),
        (dict(num_hidden_layers=4), r"weights missing for llama: model\.layers\.3"),
        (dict(num_hidden_layers=2), r"no place for in llama: model\.layers\.2"),
        (dict(intermediate_size=40), r"gate_proj\.weight is \[48, 32\].*says \[40, 32\]"),
        (dict(hidden_act="tanh"), "hidden_act='tanh': supported are"),
    ],
)
def test_what_our_blocks_do_not_have_is_refused(tmp_path, fields, says):
    saved(tmp_path)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))
    with pytest.raises(CheckpointError, match=says) as caught:
        load(tmp_path)
    assert "\n" not in str(caught.value)


def test_biases_that_the_config_denies_are_refused(tmp_path):
    saved(tmp_path, attention_bias=True)
    file = tmp_path / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"attention_bias": False}))
    with pytest.raises(
        CheckpointError, match=r"no place for in llama: model\.layers\.0\.self_attn\.k_proj\.bias"
    ):
        load(tmp_path)
