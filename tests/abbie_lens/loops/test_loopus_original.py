"""LoopUS against what the original code made of a tiny random model: states, gates, confidence, halting, logits."""

import pytest
import torch

from abbie_lens import load
from abbie_lens.loops import LoopUS
from tests.abbie_lens.families import walk
from tests.abbie_lens.originals import CLOSE, Original, variant


@pytest.fixture(scope="module")
def original(shared_fixtures):
    return Original.read(shared_fixtures / "loopus")


@pytest.fixture(scope="module")
def loaded(shared_fixtures):
    return load(shared_fixtures / "loopus", device="cpu")


@torch.no_grad()
def test_states_gates_and_logits_at_every_depth(loaded, original):
    model, expected = loaded, original.expected
    states = walk(model, original.tokens, 4)
    torch.testing.assert_close(states[0].h, expected["e"], **CLOSE)
    torch.testing.assert_close(torch.stack([s.h for s in states[1:]]), expected["states"], **CLOSE)
    sites = ["loop.hook_update_gate", "body.1.hook_resid_post"]
    cache = model.run_with_cache(original.tokens, n_iters=4, names_filter=sites)[1]
    torch.testing.assert_close(cache[sites[0]], expected["gate_a"], **CLOSE)
    torch.testing.assert_close(cache[sites[1]], expected["block_out"], **CLOSE)
    for r in (1, 2, 4):
        torch.testing.assert_close(
            model.readout(states[r]), expected[f"logits_r{r}"], **CLOSE, msg=f"r = {r}"
        )


@pytest.mark.parametrize(("reads", "name"), [("state", "q_halt"), ("change", "q_train")])
@torch.no_grad()
def test_confidence_of_the_last_token_as_decoded_and_as_trained(loaded, original, reads, name):
    model = variant(loaded, loop=LoopUS(confidence=reads))
    q = model.run_with_cache(original.tokens, n_iters=4)[1]["loop.hook_gate"][:, :, -1, 0]
    torch.testing.assert_close(q, original.expected[name], **CLOSE)
    other = {"q_halt": "q_train", "q_train": "q_halt"}[name]
    assert (q - original.expected[other]).abs().max() > 0.1, "they must be told apart"


@pytest.mark.parametrize("threshold", [0.05, 0.6])
@torch.no_grad()
def test_halting_where_the_last_tokens_confidence_passes_the_threshold(loaded, original, threshold):
    """All tokens of a sample stop with its last one, at the first q above the threshold or at the last step."""
    model = loaded
    states = walk(model, original.tokens, 4)
    q = model.run_with_cache(original.tokens, n_iters=4)[1]["loop.hook_gate"][:, :, -1, 0]
    over = q > threshold
    over[-1] = True
    steps = 1 + over.int().argmax(0)
    assert torch.equal(steps, original.expected[f"halt_step{threshold}"])
    logits = torch.stack([model.readout(state) for state in states])
    stopped = logits[steps, torch.arange(len(steps))]
    torch.testing.assert_close(stopped, original.expected[f"logits_halt{threshold}"], **CLOSE)


@torch.no_grad()
def test_a_frozen_sample_is_what_it_is_alone(loaded, original):
    """The original freezes a sample; ours runs on, so a cut at its depth must not hear of the others."""
    model = loaded
    for row in range(3):
        alone = model(original.tokens[row : row + 1], n_iters=2)
        torch.testing.assert_close(alone[0], original.expected["logits_r2"][row], **CLOSE)


@torch.no_grad()
def test_swapping_the_weights_of_old_and_new_is_seen(loaded, original):
    """a weighs the new value: the opposite reading is far from the original."""
    expected, h = original.expected, original.expected["e"]
    b, a = expected["block_out"][0], expected["gate_a"][0]
    torch.testing.assert_close(a * b + (1 - a) * h, expected["states"][0], **CLOSE)
    assert ((1 - a) * b + a * h - expected["states"][0]).abs().max() > 0.1
    model = variant(loaded, loop=LoopUS(update_init=0.5))
    state = model.step(model.begin(original.tokens, 4))
    torch.testing.assert_close(state.h, expected["states"][0], **CLOSE)
