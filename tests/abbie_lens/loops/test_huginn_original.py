"""Huginn against the published code: a tiny model in its format, state by state and logit by logit."""

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops import Huginn
from tests.abbie_lens.families import walk
from tests.abbie_lens.key_tables import fill, raven, translate
from tests.abbie_lens.originals import CLOSE, Original


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "huginn")


@pytest.fixture(scope="module")
def model(original):
    c = original.config
    cfg = LoopedConfig(
        d_model=c["n_embd"],
        n_heads=c["n_heads"],
        n_key_value_heads=c["num_key_value_heads"],
        d_mlp=c["intermediate_size"],
        d_vocab=c["padded_vocab_size"],
        n_ctx=c["block_size"],
        n_head_blocks=c["n_layers_in_prelude"],
        n_body_blocks=c["n_layers_in_recurrent_block"],
        n_tail_blocks=c["n_layers_in_coda"],
        n_iters=c["mean_recurrence"],
        norm_placement="sandwich_stream",
        use_qk_bias=c["qk_bias"],
        rotary_base=c["rope_base"],
        rotary_adjacent_pairs=True,
        tie_word_embeddings=c["tie_embeddings"],
        embed_scale=c["init_values"]["embed_scale"],
        eps=c["norm_eps"],
        loop=Huginn(),
    )
    norms = ("ln1", "ln1_post", "ln2", "ln2_post")
    table = {**raven(cfg.n_heads, cfg.kv_heads, cfg.head_width, norms), "freqs_cis": None}
    model = HookedLoopedTransformer(cfg).eval()
    fill(model, translate(original.weights, table))
    return model


@torch.no_grad()
def test_every_state_is_the_originals(model, original):
    want = original.expected
    states = walk(model, original.tokens, 4, initial_state=want["s0"])
    torch.testing.assert_close(states[0].carry["input"], want["e"], **CLOSE)
    torch.testing.assert_close(states[0].h, want["s0"])
    for k in range(4):
        torch.testing.assert_close(states[k + 1].h, want["states"][k], **CLOSE)
        torch.testing.assert_close(states[k + 1].z, want["states_normed"][k], **CLOSE)
    assert (states[4].h - states[4].z).abs().max() > 0.1


@torch.no_grad()
def test_sites_hold_the_originals_parts(model, original):
    want = original.expected
    _, cache = model.run_with_cache(original.tokens, n_iters=4, initial_state=want["s0"])
    for site, expected in (
        ("embed.hook_out", want["embeds_scaled"]),
        ("body.0.hook_resid_pre", want["adapter_out"]),
        ("loop.hook_state@3", want["states"][2]),
    ):
        torch.testing.assert_close(cache[site], expected, **CLOSE)
    normed = cache["ln_final.hook_normalized"] * model.ln_final.weight
    torch.testing.assert_close(normed, want["head_in"], **CLOSE)


@pytest.mark.parametrize("r", [1, 2, 4])
@torch.no_grad()
def test_logits_at_every_depth(model, original, r):
    logits = model(original.tokens, n_iters=r, initial_state=original.expected["s0"])
    torch.testing.assert_close(logits, original.expected[f"logits_r{r}"], **CLOSE)


@torch.no_grad()
def test_logits_from_zeros(model, original):
    zeros = torch.zeros_like(original.expected["s0"])
    logits = model(original.tokens, n_iters=4, initial_state=zeros)
    torch.testing.assert_close(logits, original.expected["logits_zero_init_r4"], **CLOSE)
