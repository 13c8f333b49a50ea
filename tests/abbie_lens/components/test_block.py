"""Variants of the block against transformers' own layers, or written out where it has none."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, Qwen3Config, Qwen3ForCausalLM

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.components.positions import rotary_table, rotate
from abbie_lens.errors import ConfigError
from abbie_lens.loops import Std

SHAPE = dict(
    d_model=32, n_heads=4, d_mlp=64, d_vocab=50, n_ctx=32, n_head_blocks=0, n_body_blocks=2,
    n_tail_blocks=0, n_iters=1, loop=Std(), seed=0, initializer_range=0.3,
)  # fmt: skip
SIZES = dict(
    hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, vocab_size=50,
    max_position_embeddings=32, attn_implementation="eager", tie_word_embeddings=False,
    initializer_range=0.3,
)  # fmt: skip


@pytest.fixture(scope="module")
def tokens():
    """[2, 9] token ids."""
    return torch.randint(0, 100, (2, 9), generator=torch.Generator().manual_seed(1))


def model(**changes):
    return HookedLoopedTransformer(LoopedConfig(**SHAPE | changes)).eval()


def blocks_from(ours, layers, names):
    """Copy the layers' tensors into our Body by name; every tensor of a block must be named."""
    for block, layer in zip(ours.body, layers, strict=True):
        theirs = layer.state_dict()
        block.load_state_dict({mine: theirs[name].clone() for mine, name in names.items()})


@torch.no_grad()
def test_parallel_with_biases_and_partly_turning_heads_is_gpt_neox():
    torch.manual_seed(0)
    neox = GPTNeoXForCausalLM(GPTNeoXConfig(**SIZES, rotary_pct=0.25, hidden_act="gelu")).eval()
    for parameter in neox.parameters():  # biases are born zero
        parameter.add_(0.1 * torch.randn_like(parameter))
    ours = model(
        normalization_type="LN", eps=1e-5, gated_mlp=False, act_fn="gelu", use_bias=True,
        parallel_attn_mlp=True, rotary_dim=2, tie_word_embeddings=False,
    )  # fmt: skip
    for block, layer in zip(ours.body, neox.gpt_neox.layers, strict=True):
        qkv = layer.attention.query_key_value
        for i, proj in enumerate((block.attn.q_proj, block.attn.k_proj, block.attn.v_proj)):
            proj.weight.copy_(qkv.weight.view(4, 3, 8, 32)[:, i].flatten(0, 1))
            proj.bias.copy_(qkv.bias.view(4, 3, 8)[:, i].flatten())
        for mine, theirs in (
            (block.attn.o_proj, layer.attention.dense),
            (block.mlp.in_proj, layer.mlp.dense_h_to_4h),
            (block.mlp.out_proj, layer.mlp.dense_4h_to_h),
            (block.ln1, layer.input_layernorm),
            (block.ln2, layer.post_attention_layernorm),
        ):
            mine.load_state_dict(theirs.state_dict())
    ours.embed.load_state_dict(neox.gpt_neox.embed_in.state_dict())
    ours.unembed.load_state_dict(neox.get_output_embeddings().state_dict())
    ours.ln_final.load_state_dict(neox.gpt_neox.final_layer_norm.state_dict())
    tokens = torch.randint(0, 50, (2, 11))
    torch.testing.assert_close(ours(tokens), neox(tokens).logits, atol=2e-5, rtol=1e-5)
    _, cache = ours.run_with_cache(tokens)
    assert "body.0.hook_resid_mid" not in cache
    parts = [cache[f"body.0.hook_{name}@0"] for name in ("resid_pre", "attn_out", "mlp_out")]
    torch.testing.assert_close(sum(parts), cache["body.0.hook_resid_post@0"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_normed_queries_and_keys_are_qwen3s():
    torch.manual_seed(0)
    qwen = Qwen3ForCausalLM(Qwen3Config(**SIZES, head_dim=8, num_key_value_heads=2)).eval()
    for layer in qwen.model.layers:
        layer.self_attn.q_norm.weight.add_(torch.rand(8))
        layer.self_attn.k_norm.weight.add_(torch.rand(8))
    ours = model(qk_norm="learned", n_key_value_heads=2, tie_word_embeddings=False)
    names = {f"attn.{n}.weight": f"self_attn.{n}.weight" for n in (
        "q_proj", "k_proj", "v_proj", "o_proj", "q_norm", "k_norm")}  # fmt: skip
    names |= {
        "mlp.gate_proj.weight": "mlp.gate_proj.weight",
        "mlp.in_proj.weight": "mlp.up_proj.weight",
        "mlp.out_proj.weight": "mlp.down_proj.weight",
        "ln1.weight": "input_layernorm.weight",
        "ln2.weight": "post_attention_layernorm.weight",
    }
    blocks_from(ours, qwen.model.layers, names)
    ours.embed.load_state_dict(qwen.model.embed_tokens.state_dict())
    ours.unembed.load_state_dict(qwen.lm_head.state_dict())
    ours.ln_final.load_state_dict(qwen.model.norm.state_dict())
    tokens = torch.randint(0, 50, (2, 11))
    torch.testing.assert_close(ours(tokens), qwen(tokens).logits, atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_adjacent_pairs_are_the_half_split_form_with_reordered_channels():
    x, order = torch.randn(2, 5, 3, 8), torch.tensor([0, 2, 4, 6, 1, 3, 5, 7])
    where = torch.arange(3, 8)[None]
    table = lambda **c: rotary_table(LoopedConfig(**SHAPE | c), where, torch.float32)  # noqa: E731
    adjacent = rotate(x, table(rotary_adjacent_pairs=True), adjacent=True)
    half = rotate(x[..., order], table())
    torch.testing.assert_close(adjacent[..., order], half)
    assert (adjacent - rotate(x, table())).abs().max() > 0.1


@torch.no_grad()
def test_a_sandwich_on_the_branch_norms_what_is_added(tokens):
    ours = model(norm_placement="sandwich_branch", d_vocab=100)
    for block in ours.body:
        block.ln1_post.weight.mul_(2.0)
    _, cache = ours.run_with_cache(tokens)
    pre, out, mid = (cache[f"body.1.hook_{n}@0"] for n in ("resid_pre", "attn_out", "resid_mid"))
    assert torch.equal(pre + out, mid)
    torch.testing.assert_close(
        out.square().mean(-1), torch.full(out.shape[:2], 4.0), atol=1e-4, rtol=0
    )


@torch.no_grad()
def test_the_attention_gate_multiplies_each_heads_result(tokens):
    ours = model(attention_gate=True, d_vocab=100)
    _, cache = ours.run_with_cache(tokens)
    z, x = cache["body.0.attn.hook_z@0"].flatten(2), cache["body.0.ln1.hook_normalized@0"]
    attn = ours.body[0].attn
    gate = (x @ attn.gate_proj.weight.T).sigmoid()
    expected = (z * gate) @ attn.o_proj.weight.T
    torch.testing.assert_close(cache["body.0.hook_attn_out@0"], expected, atol=1e-4, rtol=1e-4)
    assert torch.allclose(cache["body.0.attn.hook_z_gate@0"], gate, atol=1e-6)


@torch.no_grad()
def test_norm_after_rotation_gives_unit_queries_and_keys(tokens):
    _, cache = model(qk_norm="after_rotary", d_vocab=100).run_with_cache(tokens)
    for site in ("hook_rot_q", "hook_rot_k"):
        size = cache[f"body.0.attn.{site}@0"].square().mean(-1)
        torch.testing.assert_close(size, torch.ones_like(size), atol=1e-5, rtol=0)


@torch.no_grad()
def test_without_positions_order_is_known_from_the_mask_alone(tokens):
    ours = model(positional_embedding_type="none", d_vocab=100)
    swapped = tokens[:, [1, 0, *range(2, 9)]]
    one = HookedLoopedTransformer(ours.cfg.replace(n_body_blocks=1)).eval()
    torch.testing.assert_close(one(tokens)[:, 2:], one(swapped)[:, 2:], atol=1e-5, rtol=0)
    placed = HookedLoopedTransformer(
        ours.cfg.replace(n_body_blocks=1, positional_embedding_type="rotary")
    )
    assert (placed(tokens)[:, 2:] - placed(swapped)[:, 2:]).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"qk_norm": "some"}, "qk_norm='some'"),
        ({"rotary_dim": 3}, "rotary_dim=3"),
        ({"rotary_dim": 10}, "rotary_dim=10"),
        ({"parallel_attn_mlp": True, "norm_placement": "sandwich_branch"}, "norm_placement="),
    ],
    ids=str,
)
def test_contradictions_are_named(changes, says):
    with pytest.raises(ConfigError, match=says):
        LoopedConfig(**SHAPE | changes)
