"""PonderLM against the published code: a tiny model in its format, pass by pass."""

import dataclasses
import re

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops import Ponder
from abbie_lens.losses import next_token_nll
from tests.abbie_lens.families import walk
from tests.abbie_lens.key_tables import fill, translate
from tests.abbie_lens.originals import CLOSE, Original

LAYER = r"gpt_neox\.layers\.(\d+)\."
PARTS = {
    "input_layernorm": "ln1",
    "post_attention_layernorm": "ln2",
    r"attention\.dense": "attn.o_proj",
    r"mlp\.dense_h_to_4h": "mlp.in_proj",
    r"mlp\.dense_4h_to_h": "mlp.out_proj",
}


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "pondering_pythia")


def interleaved(n_heads):
    """Theirs hold a head's q, k and v under each other, head by head."""

    def place(match: re.Match[str], tensor: torch.Tensor) -> dict[str, torch.Tensor]:
        block, kind = match.groups()
        parts = tensor.unflatten(0, (n_heads, 3, -1)).unbind(1)
        return {
            f"body.{block}.attn.{n}_proj.{kind}": part.flatten(0, 1)
            for n, part in zip("qkv", parts, strict=True)
        }

    return place


@pytest.fixture(scope="module")
def made(original):
    """`made(**changes)`: the model with other settings of its config."""
    c = original.config
    cfg = LoopedConfig(
        d_model=c["hidden_size"],
        n_heads=c["num_attention_heads"],
        d_mlp=c["intermediate_size"],
        d_vocab=c["vocab_size"],
        n_ctx=c["max_position_embeddings"],
        n_head_blocks=0,
        n_body_blocks=c["num_hidden_layers"],
        n_tail_blocks=0,
        n_iters=c["pondering_steps"],
        act_fn=c["hidden_act"],
        gated_mlp=False,
        normalization_type="LN",
        eps=c["layer_norm_eps"],
        parallel_attn_mlp=c["use_parallel_residual"],
        rotary_dim=int(c["rotary_pct"] * c["hidden_size"] / c["num_attention_heads"]),
        rotary_base=c["rotary_emb_base"],
        use_bias=c["attention_bias"],
        tie_word_embeddings=c["tie_word_embeddings"],
        embed_scale=c["hidden_size"] ** 0.5,
        loop=Ponder(first_scale="planned" if c["mutiply_pondering_steps"] else "one"),
    )
    table = {
        **{
            LAYER + theirs + r"\.(weight|bias)": rf"body.\1.{ours}.\2"
            for theirs, ours in PARTS.items()
        },
        LAYER + r"attention\.query_key_value\.(weight|bias)": interleaved(cfg.n_heads),
        r"gpt_neox\.embed_in\.weight": "embed.weight",
        r"embed_out\.weight": "unembed.weight",
        r"gpt_neox\.final_layer_norm\.(weight|bias)": r"ln_final.\1",
        r"adapter\.weight": None,
    }
    ours = translate(original.weights, table)

    def make(**changes):
        model = HookedLoopedTransformer(dataclasses.replace(cfg, **changes)).eval()
        fill(model, ours)
        return model

    return make


@pytest.mark.parametrize("first_scale", ["planned", "trained"])
@torch.no_grad()
def test_every_pass_is_the_originals(made, original, first_scale):
    model, want = made(loop=Ponder(first_scale=first_scale)), original.expected
    states = walk(model, original.tokens, 3)
    for k, state in enumerate(states):
        torch.testing.assert_close(state.h, want["pass_inputs"][k], **CLOSE)
        torch.testing.assert_close(model.ln_final(state.z), want["pass_outputs"][k], **CLOSE)
        torch.testing.assert_close(model.readout(state), want["logits_per_pass"][k], **CLOSE)
    fed_back = model.run_with_cache(original.tokens, n_iters=3)[1]["loop.hook_feedback"]
    torch.testing.assert_close(fed_back, want["pondering_embeds"], **CLOSE)
    loss = next_token_nll(model.readout(states[-1]), original.tokens)
    torch.testing.assert_close(loss[None], want["loss"], **CLOSE)


@pytest.mark.parametrize("k", [1, 2, 3])
@torch.no_grad()
def test_another_number_of_steps_changes_the_first_input_too(made, original, k):
    logits = made()(original.tokens, n_iters=k)
    torch.testing.assert_close(logits, original.expected[f"logits_k{k}"], **CLOSE)
    kept = made(loop=Ponder(first_scale="trained"))(original.tokens, n_iters=k)
    torch.testing.assert_close(kept, original.expected["logits_per_pass"][k], **CLOSE)
    assert k == 3 or (kept - logits).abs().max() > 0.1


@torch.no_grad()
def test_no_step_begins_from_nothing(made, original):
    assert not made().begin(original.tokens, 0).h.any()


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"loop": Ponder()}, "logits_nomultiply_k3"),
        ({"loop": Ponder(), "embed_scale": 1.0}, "logits_nomultiply_noscale_k3"),
    ],
)
@torch.no_grad()
def test_without_the_scales(made, original, changes, name):
    logits = made(**changes)(original.tokens, n_iters=3)
    torch.testing.assert_close(logits, original.expected[name], **CLOSE)
