"""Every analysis on plain decoders looped at test time, unchanged, against what the model itself says."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from probes import overlays
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import walk

R = 3
PROMPTS = ["the cat sat on the mat", "the rat ran"]
every_model = pytest.mark.parametrize("name", ["gpt2", "llama"])


@pytest.fixture(scope="module")
def speaker(tiny_tokenizer):
    """`speaker(name, start, stop, rule)`: a looped decoder that reads text."""

    def make(name, start=1, stop=3, rule="damped"):
        source = decoders.make(name, seed=3, vocab_size=300)
        return LoopedBridge(source, Loop(start, stop, rule), tiny_tokenizer, name)

    return make


@every_model
@pytest.mark.parametrize("rule", ["repeat", "abbie-d", "damped", "anchored"])
def test_fixed_point(speaker, name, rule):
    model = speaker(name, rule=rule)
    found = probes.fixed_point(model, PROMPTS, n_iters=R, control=rule == "damped")
    tokens, mask = model.tokenize(PROMPTS)
    states = walk(model, tokens, R, attention_mask=mask)
    for k in range(R):
        step = (states[k + 1].h - states[k].h).double().norm(dim=-1).numpy()
        np.testing.assert_allclose(
            found.raw[k][found.valid], step[found.valid], rtol=1e-4, atol=1e-5
        )
    assert np.isnan(found.raw[:, ~found.valid]).all()
    assert len(found.to_frame()) >= R * found.valid.sum() and found.figure()


@every_model
@pytest.mark.parametrize("kind", ["tail", "logit"])
def test_lens(speaker, name, kind):
    for window in ((1, 3), (2, 4)):  # the second has no Tail: both lenses are one
        model = speaker(name, *window)
        found = probes.lens(model, PROMPTS[0], n_iters=R, kind=kind, top_k=3)
        assert found.top_ids.shape[0] == R + 1 and np.isfinite(found.top_probabilities).all()
        if kind == "tail" or window == (2, 4):
            with torch.no_grad():
                top = model(PROMPTS[0], n_iters=R).softmax(-1).topk(3)
            np.testing.assert_allclose(found.top_probabilities[R], top.values.numpy(), rtol=1e-3)
            assert np.abs(found.kl_to_final[R]).max() < 1e-5


@every_model
def test_trajectories(speaker, name):
    model = speaker(name)
    found = probes.trajectories(model, PROMPTS[0], n_iters=R, unit=False, n_components=32)
    states = walk(model, model.to_tokens(PROMPTS[0]), R)
    expected = torch.stack([state.h for state in states]).numpy()
    rebuilt = found.scores @ found.components + found.mean
    np.testing.assert_allclose(rebuilt, expected, atol=1e-3 * np.abs(expected).max())


@every_model
def test_halting(speaker, name):
    model = speaker(name, rule="repeat")  # its depth-k run is the first k iterations of any other
    found = probes.halting(model, PROMPTS, n_iters=R)
    with torch.no_grad():
        tokens, mask = model.tokenize(PROMPTS)
        for k in range(R + 1):
            best = model(tokens, n_iters=k, attention_mask=mask).argmax(-1).numpy()
            np.testing.assert_array_equal(found.prediction[k][found.valid], best[found.valid])
    assert found.sweep(found.names[0]).figure()


@every_model
def test_linear(speaker, name):
    model, rng = speaker(name), np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]
    documents = [" ".join(rng.choice(words, 12)) for _ in range(6)]
    sites = ("loop.hook_state", "body.0.hook_resid_post")
    found = probes.linear(model, documents, sites=sites, label="current_class", n_iters=2)
    assert found.rows.tolist() == [3, 2] and np.isfinite(found.trained[:, :2]).all()


def test_overlays_tell_windows_of_the_same_weights_apart(speaker):
    runs = [
        (label, probes.fixed_point(speaker("gpt2", *window), PROMPTS, n_iters=R, control=False))
        for label, window in (("early", (0, 2)), ("late", (2, 4)))
    ]
    assert runs[0][1].model.weight_hash == runs[1][1].model.weight_hash
    assert overlays.distances(runs).figure()


@every_model
def test_unrolled_cache_is_that_of_the_plain_stack(speaker, name):
    model = speaker(name, rule="repeat")
    with torch.no_grad():
        logits, cache = model.run_with_cache(PROMPTS[0], n_iters=R)
        flat = cache.unroll()
        last = flat["blocks.7.hook_resid_post"]
        torch.testing.assert_close(model.bridge.unembed(model.ln_final(last)), logits)
    assert torch.equal(flat["blocks.5.hook_resid_pre"], cache["body.0.hook_resid_pre@2"])
    parts = flat.accumulated_resid(layer=-1, incl_mid=False)
    torch.testing.assert_close(parts[-1], last)
