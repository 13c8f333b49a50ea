"""HRM-Text in the public format: every state, and logits at several cycles, are the original's; so are its gradients."""

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.loops import HRM
from abbie_lens.training.objective import Objective
from abbie_lens.training.recipe import Recipe
from tests.abbie_lens.originals import CLOSE, Original

NAMES = {
    "attn.gqkv_proj.weight": ("attn.gate_proj", "attn.q_proj", "attn.k_proj", "attn.v_proj"),
    "attn.o_proj.weight": ("attn.o_proj",),
    "mlp.gate_up_proj.weight": ("mlp.gate_proj", "mlp.in_proj"),
    "mlp.down_proj.weight": ("mlp.out_proj",),
}


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "hrm_text")


def config(theirs, **loop):
    """Our config of one of theirs."""
    cycles = {"low_cycles": theirs["L_cycles"], "backprop_cycles": tuple(theirs["L_bp_cycles"])}
    depth = theirs["num_layers_per_stack"]
    return LoopedConfig(
        d_model=theirs["hidden_size"],
        n_heads=theirs["num_attention_heads"],
        d_head=theirs["head_dim"],
        d_mlp=theirs["intermediate_size"],
        d_vocab=theirs["vocab_size"],
        n_ctx=theirs["max_position_embeddings"],
        n_head_blocks=0,
        n_body_blocks=2 * depth,
        n_tail_blocks=0,
        n_iters=theirs["H_cycles"],
        normalization_type="RMSPre",
        attention_gate=True,
        rotary_base=theirs["rope_parameters"]["rope_theta"],
        eps=theirs["rms_norm_eps"],
        embed_scale=theirs["embedding_scale"],
        tie_word_embeddings=theirs["tie_word_embeddings"],
        loop=HRM(**(cycles | loop)),
    )


def weights(theirs, depth):
    """Their tensors under our names; every one is used."""
    ours = {
        "embed.weight": theirs["model.embed_tokens.weight"],
        "unembed.weight": theirs["lm_head.weight"],
        "loop.low_init.weight": theirs["model.z_L_init"],
    }
    used = {"model.embed_tokens.weight", "lm_head.weight", "model.z_L_init"}
    for stack, first in (("L", 0), ("H", depth)):
        for layer in range(depth):
            for name, parts in NAMES.items():
                key = f"model.{stack}_module.layers.{layer}.{name}"
                used.add(key)
                for part, tensor in zip(parts, theirs[key].chunk(len(parts)), strict=True):
                    ours[f"body.{first + layer}.{part}.weight"] = tensor
    assert used == theirs.keys()
    return ours


@pytest.fixture(scope="module")
def build(original):
    def make(low_cycles):
        cfg = config(original.config, low_cycles=low_cycles, backprop_cycles=(1,))
        model = HookedLoopedTransformer(cfg).eval()
        model.load_state_dict(weights(original.weights, original.config["num_layers_per_stack"]))
        return model

    return make


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


def test_logits_and_gradients_are_those_of_transformers():
    """At three outer and two inner cycles, where the list of cycles with gradient is filled up from the left."""
    from transformers import HrmTextConfig, HrmTextForCausalLM

    sizes = dict(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, head_dim=8,
        num_attention_heads=4, max_position_embeddings=64, H_cycles=3, L_cycles=2,
        L_bp_cycles=[2], initializer_range=0.1, embedding_scale=10.0, prefix_lm=False,
    )  # fmt: skip
    torch.manual_seed(0)
    theirs = HrmTextForCausalLM(HrmTextConfig(**sizes)).train()
    cfg = config(
        {**sizes, "num_layers_per_stack": 1, "rms_norm_eps": 1e-6, "tie_word_embeddings": False,
         "rope_parameters": {"rope_theta": 10000.0}}
    )  # fmt: skip
    model = HookedLoopedTransformer(cfg).train()
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
    model.load_state_dict({ours: found[name] for name, ours in pairs.items()}, strict=False)
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
