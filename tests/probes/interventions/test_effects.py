"""Steering, ablation, frozen patterns and noise: what they must do, what their controls say, what they refuse."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from probes import ablation, bundle, difference_of_means, frozen_patterns, recovery, steering
from probes.probing.probe import Probe
from probes.probing.stored import FittedProbes
from tests.abbie_lens.families import make

R = 2
TEXT = torch.tensor([[3, 5, 7, 9, 11]])


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    return make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


def log_probs(logits):
    return logits.double().log_softmax(-1)


def test_steering_adds_what_it_says(model):
    vector = np.arange(32.0) - 10
    found = steering(
        model,
        TEXT,
        vector,
        R,
        iterations=[1],
        strengths=[0.3, 0.0],
        answer=4,
        other=6,
        n_placebos=3,
    )
    push = torch.from_numpy(vector / np.linalg.norm(vector)).float()
    with torch.no_grad():
        plain = model(TEXT, n_iters=R)
        add = lambda h, hook: h + 0.3 * h.norm(dim=-1, keepdim=True) * push  # noqa: E731
        steered = model.run_with_hooks(TEXT, n_iters=R, fwd_hooks=[("loop.hook_state@1", add)])
    p, q = log_probs(plain), log_probs(steered)
    kl = (p.exp() * (p - q)).sum(-1).mean()
    change = (steered - plain)[0, -1, 4] - (steered - plain)[0, -1, 6]
    assert found.effect[0, 0] == pytest.approx(float(kl), rel=1e-3)
    assert found.effect[2, 0] == pytest.approx(float(change), abs=1e-4)
    assert np.abs(found.effect[:, 1]).max() < 1e-5 and np.abs(found.placebo[:, 1]).max() < 1e-5
    assert found.placebo.shape == (3, 2, 3) and (found.placebo[0, 0] > 0).all()


def test_a_direction_that_the_readout_has_steers_and_random_ones_do_not(model):
    """Towards a token's own unembedding the logit rises by more than along any random direction."""
    toward = (model.unembed.W_U if hasattr(model.unembed, "W_U") else model.embed.weight.T)[:, 4]
    found = steering(
        model, TEXT, toward, R, site="resid_post", block=1, iterations=[R - 1],
        strengths=[0.5], answer=4, other=6, n_placebos=6,
    )  # fmt: skip
    assert found.effect[2, 0] > found.placebo[2, 0].max()


def test_steering_while_generating_is_plain_at_zero(model):
    found = steering(model, TEXT, np.ones(32), R, strengths=[0.0], n_placebos=2, generate=3)
    both = steering(model, TEXT, np.ones(32), R, strengths=[-0.2, 0.2], n_placebos=2, generate=1)
    assert both.generated_at == 0.2
    assert list(found.texts) == ["plain", "steered", "placebo 1", "placebo 2"]
    assert len(set(found.texts.values())) == 1 and found.texts["plain"]


def test_steering_pushes_the_named_tokens_alone(model):
    given = dict(iterations=[1], strengths=[0.3], n_placebos=2)
    found = steering(model, TEXT, np.arange(32.0) - 10, R, positions=[1, -1], generate=2, **given)
    push = torch.from_numpy((np.arange(32.0) - 10) / np.linalg.norm(np.arange(32.0) - 10)).float()
    there = torch.tensor([0, 1, 0, 0, 1])[:, None]

    def add(h, hook):
        return torch.cat(
            [h[:, :5] + 0.3 * h[:, :5].norm(dim=-1, keepdim=True) * push * there, h[:, 5:]], 1
        )

    with torch.no_grad():
        plain, ids = model(TEXT, n_iters=R), TEXT
        for _ in range(2):
            steered = model.run_with_hooks(ids, n_iters=R, fwd_hooks=[("loop.hook_state@1", add)])
            if ids is TEXT:
                p, q = log_probs(plain), log_probs(steered)
            ids = torch.cat([ids, steered[:, -1:].argmax(-1)], 1)
    assert found.effect[0, 0] == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert found.positions == (1, 4) and found.texts["steered"] == model.to_string(ids[0, 5:])
    every = steering(model, TEXT, np.arange(32.0) - 10, R, positions=range(5), **given)
    np.testing.assert_allclose(
        every.effect, steering(model, TEXT, np.arange(32.0) - 10, R, **given).effect, atol=1e-6
    )


def test_fitted_probes_steer_along_their_own_directions(model):
    rng = np.random.default_rng(0)
    three = ("noun", "verb", "other")

    def probe(classes):
        n = 1 if len(classes) == 2 else len(classes)
        parts = rng.standard_normal(32), rng.uniform(1, 2, 32), rng.standard_normal((n, 32))
        return Probe("classes", classes, *parts, np.zeros(n))

    def fitted(classes):
        at = {f"loop.hook_state@{k}": probe(classes) for k in range(2)}
        return FittedProbes(model.info(), "x", "", R, at)

    several, two = fitted(three), fitted(three[:2])
    given = dict(strengths=[0.3], n_placebos=2)
    for probes, toward, sign in ((several, "verb", 1), (two, "verb", 1), (two, "noun", -1)):
        found = steering(model, TEXT, probes, R, iterations=[1], toward=toward, **given)
        columns = probes.probes["loop.hook_state@1"].direction
        own = columns[1] - columns.mean(0) if len(columns) > 1 else sign * columns[0]
        alone = steering(model, TEXT, own, R, iterations=[1], **given)
        np.testing.assert_allclose(found.effect, alone.effect, rtol=1e-5)
    refused(
        "no probe was fitted on loop.hook_state@2", steering, model, TEXT, several, R, toward="verb"
    )
    refused("expected one of noun, verb, other", steering, model, TEXT, several, R, iterations=[1])
    refused("a vector has one direction", steering, model, TEXT, np.ones(32), R, toward="verb")
    refused("positions=.9.", steering, model, TEXT, np.ones(32), R, positions=[9])


def test_difference_of_means(model):
    found = difference_of_means(model, ["the cat", "cat the"], ["the mat"], R, iteration=1)
    with torch.no_grad():
        ends = [
            model.run_with_cache(t, n_iters=R)[1]["loop.hook_state@1"][0, -1]
            for t in ("the cat", "cat the", "the mat")
        ]
    expected = (ends[0] + ends[1]) / 2 - ends[2]
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-4)


def test_ablation_replaces_by_the_mean_of_the_reference(model):
    found = ablation(model, TEXT, R, site="mlp_out", n_draws=2, reference="the cat sat on the mat")
    site = "body.1.hook_mlp_out"
    with torch.no_grad():
        plain, _ = model.run_with_cache(TEXT, n_iters=R)
        _, cache = model.run_with_cache("the cat sat on the mat", n_iters=R)
        mean = cache[f"{site}@0"][0].mean(0)
        out = model.run_with_hooks(
            TEXT, n_iters=R, fwd_hooks=[(f"{site}@0", lambda x, hook: mean.expand_as(x))]
        )
    p, q = log_probs(plain), log_probs(out)
    kl = float((p.exp() * (p - q)).sum(-1).mean())
    assert found.mean[0, 1, 0, 0] == pytest.approx(kl, rel=1e-3)
    assert found.resample.shape == (2, 2, R, 1, 2) and (found.resample[0] > 0).all()


def test_ablating_a_head_leaves_the_others(model):
    """All that the ablated head says goes through its own rows of the output map: with those zero, nothing changes."""
    quiet = make("abbie-d", seed=7)
    with torch.no_grad():
        quiet.body[0].attn.o_proj.weight[:, 8:16] = 0
    found = ablation(quiet, TEXT, R, site="z", blocks=0, n_draws=1)
    assert np.abs(found.mean[0, 0, :, 1]).max() < 1e-9 < found.mean[0, 0, :, 0].min()


def test_a_pattern_kept_from_the_same_iteration_changes_nothing(model):
    found = frozen_patterns(model, TEXT, R)
    same = np.diagonal(found.effect, axis1=3, axis2=4)
    assert np.abs(same).max() < 1e-5
    assert found.effect[0, :, :, 0, 1].max() > 1e-6 and found.uniform[0].max() > 1e-6
    assert found.effect.shape == (2, 2, 4, R, R)


def test_noise_is_as_large_as_it_says_and_dies_in_a_contraction(model):
    found = recovery(model, TEXT, 4, at=1, sizes=[0.01, 0.2], n_draws=2)
    assert found.distance.shape == (2, 2, 4, 3)
    # A random direction is nearly orthogonal to the state.
    np.testing.assert_allclose(found.distance[0, 0, 0, 1], 0.01, rtol=0.1)
    assert (found.distance[0, 1, 0] > found.distance[0, 0, 0]).all() and found.kl[1] > found.kl[0]
    assert found.control is not None and found.control.model.weight_hash != found.model.weight_hash


def test_they_are_kept_and_drawn(model, tmp_path):
    results = {
        "steering": steering(model, TEXT, np.ones(32), R, n_placebos=2, generate=1),
        "ablation": ablation(model, TEXT, R, site="z", n_draws=1),
        "frozen": frozen_patterns(model, TEXT, R, blocks=[0]),
        "recovery": recovery(model, TEXT, R, n_draws=1),
    }
    back = bundle.load(bundle.save(results, tmp_path / "out"))
    for name, result in results.items():
        assert back.results[name].to_frame().equals(result.to_frame())
        assert result.figure(theme="dark").layout.height


def refused(message, call, *args, **given):
    with pytest.raises(InputError, match=message) as caught:
        call(*args, **given)
    assert "\n" not in str(caught.value)


def test_what_makes_no_sense_is_told(model):
    refused("all zeros has no direction", steering, model, TEXT, np.zeros(32), R)
    refused(r"shape \(31,\)", steering, model, TEXT, np.ones(31), R)
    refused("NaN or infinity", steering, model, TEXT, np.full(32, np.nan), R)
    refused("iterations=.7.", steering, model, TEXT, np.ones(32), R, iterations=[7])
    refused("name both tokens", steering, model, TEXT, np.ones(32), R, answer=4)
    refused("name the block", steering, model, TEXT, np.ones(32), R, site="mlp_out")
    refused("strengths", steering, model, TEXT, np.ones(32), R, strengths=[np.inf])
    refused("n_draws=0", ablation, model, TEXT, R, n_draws=0)
    refused("site='state'", ablation, model, TEXT, R, site="state")
    refused("2 prompts", frozen_patterns, model, TEXT.repeat(2, 1), R)
    refused("at=9", recovery, model, TEXT, R, at=9)
    refused("sizes", recovery, model, TEXT, R, sizes=[0.0])
    refused("tokens='first'", difference_of_means, model, ["a"], ["b"], R, tokens="first")
    refused("shape changes", frozen_patterns, make("spiral"), torch.arange(2, 10)[None], 3)
