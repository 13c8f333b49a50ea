"""PonderLM against the published code: a tiny model in its format, pass by pass."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.loops import Ponder
from abbie_lens.losses import next_token_nll
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original, variant


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "pondering_pythia")


@pytest.fixture(scope="module")
def made(shared_fixtures):
    """`made(**changes)`: the model with other settings of its config."""
    model = load(shared_fixtures / "pondering_pythia", device="cpu")
    return lambda **changes: variant(model, **changes)


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
