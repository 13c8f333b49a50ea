"""Retrofitted recurrence against the published code: a tiny model in its Llama format."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.loops import Retrofit
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "retrofit_llama")


@pytest.fixture(scope="module")
def model(shared_fixtures):
    return load(shared_fixtures / "retrofit_llama", device="cpu")


@torch.no_grad()
def test_every_state_is_the_originals(model, original):
    want = original.expected
    states = walk(model, original.tokens, 4, initial_state=want["s0"])
    torch.testing.assert_close(states[0].carry["input"], want["e"], **CLOSE)
    for k in range(4):
        torch.testing.assert_close(states[k + 1].h, want["states"][k], **CLOSE)
        assert torch.equal(states[k + 1].z, states[k + 1].h), "no norm before the Tail"
    _, cache = model.run_with_cache(original.tokens, n_iters=4, initial_state=want["s0"])
    torch.testing.assert_close(cache["embed.hook_out"], want["embeds"], **CLOSE)
    torch.testing.assert_close(cache["body.0.hook_resid_pre"], want["adapter_out"], **CLOSE)
    torch.testing.assert_close(cache["tail.0.hook_resid_post"], want["coda_out"], **CLOSE)
    normed = cache["ln_final.hook_normalized"] * model.ln_final.weight
    torch.testing.assert_close(normed, want["head_in"], **CLOSE)


@pytest.mark.parametrize(
    ("start", "r", "name"),
    [
        ("s0", 1, "logits_r1"), ("s0", 2, "logits_r2"), ("s0", 4, "logits_r4"),
        ("s0_own", 4, "logits_own_init_r4"), ("zeros", 4, "logits_zero_init_r4"),
    ],
)  # fmt: skip
@torch.no_grad()
def test_logits_at_every_depth(model, original, start, r, name):
    want = original.expected
    h = torch.zeros_like(want["s0"]) if start == "zeros" else want[start]
    logits = model(original.tokens, n_iters=r, initial_state=h)
    torch.testing.assert_close(logits, want[name], **CLOSE)


@torch.no_grad()
def test_the_models_own_start_is_as_small_as_the_originals(model, original):
    drawn, theirs = model.begin(original.tokens, 0).h, original.expected["s0_own"]
    assert theirs.std().item() == pytest.approx(0.0087, rel=0.1)
    assert drawn.std().item() == pytest.approx(theirs.std().item(), rel=0.1)
    assert model.cfg.loop.init_scale == pytest.approx(Retrofit().init_scale)
