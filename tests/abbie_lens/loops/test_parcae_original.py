"""Parcae against the published code: a tiny model in its format, injection, states and logits."""

import pytest
import torch

from abbie_lens import HookedLoopedTransformer, LoopedConfig
from abbie_lens.errors import InputError
from abbie_lens.loops import Parcae
from tests.abbie_lens.families import walk
from tests.abbie_lens.key_tables import fill, translate
from tests.abbie_lens.originals import CLOSE, Original

BLOCK = r"transformer\.(prelude|core_block|coda)\.(\d+)\."
TABLE = {
    **{BLOCK + rf"attn\.c_{n}\.weight": rf"\1.\2.attn.{n}_proj.weight" for n in "qkv"},
    BLOCK + r"attn\.c_proj\.weight": r"\1.\2.attn.o_proj.weight",
    BLOCK + r"attn\.ve_gate\.weight": r"\1.\2.attn.value_embed.gate.weight",
    BLOCK + r"mlp\.fc\.weight": r"\1.\2.mlp.in_proj.weight",
    # Theirs halves the squared activation; here the projection after it does.
    BLOCK + r"mlp\.proj\.weight": lambda m, w: {f"{STAGE[m[1]]}.{m[2]}.mlp.out_proj.weight": w / 2},
    BLOCK + r"norm_([12])\.weight": r"\1.\2.ln\3.weight",
    r"value_embeds\.(\d+)\.weight": lambda m, w: {
        f"{stage_of(int(m[1]))}.attn.value_embed.weight": w
    },
    r"transformer\.adapter\.B": "loop.injection.B.weight",
    r"transformer\.adapter\.(A_log|dt_bias)": r"loop.injection.\1",
    r"transformer\.C\.weight": "loop.readout.weight",
    r"transformer\.ln_prelude\.weight": "loop.ln_input.weight",
    r"transformer\.ln_f\.weight": "ln_final.weight",
    r"transformer\.wte\.weight": "embed.weight",
    r"lm_head\.weight": "unembed.weight",
    "freqs_cis": None,
}
STAGE = {"prelude": "head", "core_block": "body", "coda": "tail"}


def stage_of(number):
    """Stage and block of a number counted over 2 + 2 + 2 blocks."""
    return f"{('head', 'body', 'tail')[number // 2]}.{number % 2}"


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "parcae")


@pytest.fixture(scope="module")
def model(original):
    c = original.config
    cfg = LoopedConfig(
        d_model=c["n_embd"],
        n_heads=c["num_attention_heads"],
        n_key_value_heads=c["num_key_value_heads"],
        d_mlp=c["intermediate_size"],
        d_vocab=c["padded_vocab_size"],
        n_ctx=c["block_size"],
        n_head_blocks=c["n_layers_in_prelude"],
        n_body_blocks=c["n_layers_in_recurrent_block"],
        n_tail_blocks=c["n_layers_in_coda"],
        n_iters=c["mean_recurrence"],
        act_fn="relu2",
        gated_mlp=False,
        qk_norm="after_rotary" if c["qk_norm"] else "none",
        rotary_base=c["rope_settings"]["rope_base"],
        rotary_adjacent_pairs=True,
        value_embeddings="alternate",
        tie_word_embeddings=c["tie_embeddings"],
        eps=c["norm_eps"],
        loop=Parcae(input_norm=c["prelude_norm"]),
    )
    model = HookedLoopedTransformer(cfg).eval()
    fill(model, translate(original.weights, TABLE))
    return model


def test_the_preset_is_the_published_shape(model, original):
    shape = Parcae.shape(original.config["n_embd"])
    assert shape.pop("initializer_range") > 0
    assert shape == {name: getattr(model.cfg, name) for name in shape}
    assert original.config["mean_backprop_depth"] == Parcae.recipe["backprop_depth"]


@torch.no_grad()
def test_every_state_is_the_originals(model, original):
    want = original.expected
    states = walk(model, original.tokens, 4, initial_state=want["s0"])
    for k in range(4):
        torch.testing.assert_close(states[k + 1].h, want["states"][k], **CLOSE)
    torch.testing.assert_close(states[4].z, want["C_out"], **CLOSE)


@torch.no_grad()
def test_sites_hold_the_originals_parts(model, original):
    want = original.expected
    _, cache = model.run_with_cache(original.tokens, n_iters=4, initial_state=want["s0"])
    each = lambda x: x.expand_as(want["states"])  # noqa: E731
    for site, expected in (
        ("embed.hook_out", want["embeds"]),
        ("loop.hook_decay", each(want["decay"])),
        ("loop.hook_injected", each(want["injected_input"])),
        ("body.0.hook_resid_pre", want["adapter_out"]),
        ("tail.1.hook_resid_post", want["coda_out"]),
    ):
        torch.testing.assert_close(cache[site], expected, **CLOSE)
    e = cache["loop.ln_input.hook_normalized@0"] * model.loop.ln_input.weight
    torch.testing.assert_close(e, want["e"], **CLOSE)
    delta = torch.nn.functional.softplus(model.loop.injection.dt_bias)
    torch.testing.assert_close(delta, want["delta"], **CLOSE)
    normed = cache["ln_final.hook_normalized"] * model.ln_final.weight
    torch.testing.assert_close(normed, want["head_in"], **CLOSE)


@pytest.mark.parametrize(
    ("r", "name"),
    [(1, "logits_r1"), (2, "logits_r2"), (4, "logits_r4"), (4, "logits_zero_init_r4")],
)
@torch.no_grad()
def test_logits_at_every_depth(model, original, r, name):
    h = original.expected["s0"] * (0 if "zero" in name else 1)
    logits = model(original.tokens, n_iters=r, initial_state=h)
    torch.testing.assert_close(logits, original.expected[name], **CLOSE)


@torch.no_grad()
def test_a_tail_with_value_embeddings_decodes_only_with_its_tokens(model, original):
    tokens = original.tokens
    state = walk(model, tokens, 1)[-1]
    decoded = model.decode(state.z[None], tokens=tokens)[0]
    torch.testing.assert_close(decoded, model.readout(state), **CLOSE)
    with pytest.raises(InputError, match="the Tail has value embeddings"):
        model.decode(state.z)
