"""Parcae against the published code: a tiny model in its format, injection, states and logits."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.errors import InputError
from abbie_lens.loops import Parcae
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "parcae")


@pytest.fixture(scope="module")
def model(shared_fixtures):
    return load(shared_fixtures / "parcae", device="cpu")


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
