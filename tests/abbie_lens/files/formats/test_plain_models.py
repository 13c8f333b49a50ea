"""Formats without outputs of their original code: blocks held to the plain models that they were cut out of."""

import pytest
import torch

from abbie_lens import load

SIZES = dict(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=128, pad_token_id=0, tie_word_embeddings=False,
    initializer_range=0.3,
)  # fmt: skip
LLAMA3 = {
    "rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
TOKENS = torch.randint(0, 96, (2, 100), generator=torch.Generator().manual_seed(0))


def randomised(model):
    """With norm weights that show where they are."""
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data.add_(0.5 * torch.randn(parameter.shape, generator=generator))
    return model.eval()


@torch.no_grad()
def test_olmo_norms_after_its_branches_and_queries_over_all_heads(raven):
    from transformers import Olmo2Config, Olmo2ForCausalLM

    torch.manual_seed(0)
    config = Olmo2Config(**SIZES, rope_parameters={"rope_type": "default", "rope_theta": 5000.0})
    theirs = randomised(Olmo2ForCausalLM(config))
    model = load(raven(theirs, rope_theta=5000.0), device="cpu")
    assert model.cfg.norm_placement == "post_branch" and model.cfg.qk_norm == "learned_joint"
    torch.testing.assert_close(
        model(TOKENS, n_iters=1), theirs(TOKENS).logits, atol=1e-4, rtol=1e-4
    )


@torch.no_grad()
def test_llamas_scaled_rotation(raven):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, rope_parameters={"rope_theta": 1000.0, **LLAMA3})
    theirs = randomised(LlamaForCausalLM(config))
    folder = raven(theirs, rope_theta=1000.0, rope_scaling=LLAMA3)
    scaled = load(folder, device="cpu")(TOKENS, n_iters=1)
    torch.testing.assert_close(scaled, theirs(TOKENS).logits, atol=1e-4, rtol=1e-4)
    plain = load(raven(theirs, rope_theta=1000.0), device="cpu")(TOKENS, n_iters=1)
    assert (plain - scaled).abs().max() > 0.1, "else this shows nothing"


def test_other_rules_of_scaling_are_refused(raven):
    from transformers import LlamaConfig, LlamaForCausalLM

    from abbie_lens.errors import CheckpointError

    theirs = LlamaForCausalLM(LlamaConfig(**SIZES))
    folder = raven(theirs, rope_theta=1e4, rope_scaling={"type": "yarn", "factor": 2.0})
    with pytest.raises(CheckpointError, match=r"rope_scaling=.*supported rope types"):
        load(folder)
