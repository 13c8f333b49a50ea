"""HRM-Text in the public format: every state, and logits at several cycles, are the original's; so are its gradients."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import InputError
from abbie_lens.loops import HRM
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.originals import CLOSE, Original, variant


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "hrm_text")


@pytest.fixture(scope="module")
def build(shared_fixtures):
    """`build(low_cycles)`: the model with another number of inner cycles."""
    model = load(shared_fixtures / "hrm_text", device="cpu")
    return lambda low: variant(model, loop=HRM(low_cycles=low, backprop_cycles=(1,)))


@torch.no_grad()
def test_every_state_is_the_originals(original, build):
    cache = build(3).run_with_cache(original.tokens, n_iters=2)[1]
    same = lambda name, value: torch.testing.assert_close(value, original.expected[name], **CLOSE)  # noqa: E731
    low, high = cache["loop.hook_low_state"], cache["loop.hook_state"]
    same("embeds_scaled", high[0])
    same("z_L", low.unflatten(0, (2, 3)))
    same("z_H", high[1:])
    same("L_input", cache["body.0.hook_resid_pre"].unflatten(0, (2, 3)))
    same("H_input", cache["body.2.hook_resid_pre"])
    same("z_L_init", build(3).loop.low_init.weight)


@pytest.mark.parametrize(("outer", "inner"), [(1, 3), (2, 1), (2, 3)])
@torch.no_grad()
def test_logits_are_the_originals(original, build, outer, inner):
    model = build(inner)
    expected = original.expected[f"logits_H{outer}_L{inner}"]
    torch.testing.assert_close(model(original.tokens, n_iters=outer), expected, **CLOSE)
    past, pieces = {}, []
    for chunk in original.tokens.split([4, 1, 5], dim=1):
        logits, past = model.run_cached(chunk, past, outer)
        pieces.append(logits)
    torch.testing.assert_close(torch.cat(pieces, 1), expected, **CLOSE)


@torch.no_grad()
def test_a_prefix_attends_both_ways(original, build):
    model, want = build(3), original.expected
    types = torch.tensor(original.inputs["token_type_ids"])
    logits, cache = model.run_with_cache(original.tokens, n_iters=2, token_type_ids=types)
    torch.testing.assert_close(logits, want["logits_prefix"], **CLOSE)
    low = cache["loop.hook_low_state"].unflatten(0, (2, 3))
    torch.testing.assert_close(low, want["z_L_prefix"], **CLOSE)
    torch.testing.assert_close(cache["loop.hook_state"][1:], want["z_H_prefix"], **CLOSE)
    assert (logits - want["logits_H2_L3"]).abs().max() > 0.1
    padded = torch.cat([torch.zeros(2, 2, dtype=torch.long), original.tokens], dim=1)
    mask = torch.cat([torch.zeros(2, 2), torch.ones(2, 10)], dim=1)
    more = torch.cat([torch.ones(2, 2, dtype=torch.long), types], dim=1)
    left = model(padded, attention_mask=mask, token_type_ids=more)[:, 2:]
    torch.testing.assert_close(left, want["logits_prefix"], **CLOSE)
    with pytest.raises(InputError, match="token_type_ids: shape"):
        model(original.tokens, token_type_ids=types[:, 1:])
    with pytest.raises(InputError, match="attends causally"):
        variant(model, prefix_lm=False)(original.tokens, token_type_ids=types)


def test_logits_and_gradients_are_those_of_transformers(tmp_path):
    """At three outer and two inner cycles, where the list of cycles with gradient is filled up from the left."""
    from transformers import HrmTextConfig, HrmTextForCausalLM

    sizes = dict(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, head_dim=8,
        num_attention_heads=4, max_position_embeddings=64, H_cycles=3, L_cycles=2,
        L_bp_cycles=[2], initializer_range=0.1, embedding_scale=10.0, prefix_lm=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = HrmTextForCausalLM(HrmTextConfig(**sizes)).train()
    theirs.save_pretrained(tmp_path)
    model = load(tmp_path, device="cpu").train()
    names = {
        "self_attn.gate_proj": "attn.gate_proj", "self_attn.q_proj": "attn.q_proj",
        "self_attn.k_proj": "attn.k_proj", "self_attn.v_proj": "attn.v_proj",
        "self_attn.o_proj": "attn.o_proj", "mlp.gate_proj": "mlp.gate_proj",
        "mlp.up_proj": "mlp.in_proj", "mlp.down_proj": "mlp.out_proj",
    }  # fmt: skip
    pairs = {"model.embed_tokens.weight": "embed.weight", "lm_head.weight": "unembed.weight"}
    for stack, block in (("L", 0), ("H", 1)):
        for name, ours in names.items():
            pairs[f"model.{stack}_module.layers.0.{name}.weight"] = f"body.{block}.{ours}.weight"
    found = dict(theirs.named_parameters())
    assert found.keys() == pairs.keys() | {"model.z_L_init"}
    tokens = torch.randint(0, 64, (2, 12), generator=torch.Generator().manual_seed(3))

    theirs(tokens, labels=tokens, use_cache=False).loss.backward()
    Objective(model, Recipe())(tokens, None, 3, 1.0)[0].backward()
    torch.testing.assert_close(model(tokens), theirs(tokens, use_cache=False).logits, **CLOSE)
    for name, ours in pairs.items():
        gradient = model.get_parameter(ours).grad
        torch.testing.assert_close(gradient, found[name].grad, atol=1e-5, rtol=1e-3)
    whole = model.eval()
    whole.zero_grad()
    Objective(whole, Recipe())(tokens, None, 3, 1.0)[0].backward()
    other = whole.body[0].mlp.in_proj.weight.grad
    mine = found["model.L_module.layers.0.mlp.up_proj.weight"].grad
    assert not torch.allclose(other, mine, rtol=1e-2), "else this shows nothing"
