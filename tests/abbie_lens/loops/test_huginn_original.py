"""Huginn against the published code: a tiny model in its format, state by state and logit by logit."""

import pytest
import torch

from abbie_lens import load
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "huginn")


@pytest.fixture(scope="module")
def model(shared_fixtures):
    return load(shared_fixtures / "huginn", device="cpu")


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
