"""Every analysis on every loop: it runs through begin, step and readout, and says what is known of its result."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import AbbieLensError, DepthError, SiteError
from tests.abbie_lens.families import LOOPS, make, walk

R = 3
every_loop = pytest.mark.parametrize("name", LOOPS)


@pytest.fixture(scope="module")
def speaker(tiny_tokenizer):
    """`speaker(name)`: a model of that loop that reads text; not the weights that its control has."""
    return lambda name: make(name, tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


PROMPTS = ["the cat sat on the mat", "the rat ran"]


@every_loop
def test_fixed_point(speaker, name):
    model = speaker(name)
    found = probes.fixed_point(model, PROMPTS, n_iters=R, control=name in ("0pt", "spiral"))
    tokens, mask = model.tokenize(PROMPTS)
    states = walk(model, tokens, R, attention_mask=mask)
    for k in range(R):
        step = (states[k + 1].h - states[k].h).double().norm(dim=-1).numpy()
        np.testing.assert_allclose(
            found.raw[k][found.valid], step[found.valid], rtol=1e-4, atol=1e-5
        )
    assert np.isnan(found.raw[:, ~found.valid]).all()
    assert (found.diverged_at == -1).all()
    if model.cfg.loop.max_depth is None:
        assert (
            found.limit_iters == 4 * R and np.isfinite(found.limit_direction[:, found.valid]).all()
        )
    else:
        assert found.limit_iters == 0 and "n_iters=12" in found.limit_reason
    assert len(found.to_frame()) >= R * found.valid.sum()


@every_loop
@pytest.mark.parametrize("kind", ["tail", "logit"])
def test_lens(speaker, name, kind):
    model = speaker(name)
    found = probes.lens(model, PROMPTS[0], n_iters=R, kind=kind, top_k=3)
    with torch.no_grad():
        logits = model(PROMPTS[0], n_iters=R)
        halfway = model(PROMPTS[0], n_iters=1)
    if kind == "tail" or model.cfg.n_tail_blocks == 0:
        for k, expected in ((R, logits), (1, halfway)):
            top = expected.softmax(-1).topk(3)
            np.testing.assert_array_equal(found.top_ids[k], top.indices.numpy())
            np.testing.assert_allclose(found.top_probabilities[k], top.values.numpy(), rtol=1e-3)
        assert np.abs(found.kl_to_final[R]).max() < 1e-6
    assert found.top_ids.shape == (R + 1, 1, logits.shape[1], 3)


@every_loop
def test_trajectories(speaker, name):
    model = speaker(name)
    found = probes.trajectories(model, PROMPTS[0], n_iters=R, unit=False, n_components=32)
    assert np.isfinite(found.scores).all()
    rebuilt = found.scores @ found.components + found.mean
    states = walk(model, model.to_tokens(PROMPTS[0]), R)
    expected = torch.stack([state.h for state in states]).numpy()
    np.testing.assert_allclose(rebuilt, expected, atol=1e-3 * np.abs(expected).max())


@every_loop
def test_halting(speaker, name):
    model = speaker(name)
    found = probes.halting(model, PROMPTS, n_iters=R)
    with torch.no_grad():
        tokens, mask = model.tokenize(PROMPTS)
        for k in range(R + 1):
            best = model(tokens, n_iters=k, attention_mask=mask).argmax(-1).numpy()
            np.testing.assert_array_equal(found.prediction[k][found.valid], best[found.valid])
    assert np.isfinite(found.nll[:, 0, :-1]).all()


@every_loop
def test_linear(speaker, name):
    model, rng = speaker(name), np.random.default_rng(0)
    words = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]
    documents = [" ".join(rng.choice(words, 12)) for _ in range(6)]
    given = dict(label="current_class", n_iters=2)
    sites = ("loop.hook_state", "loop.hook_readout")
    found = probes.linear(model, documents, sites=sites, **given)
    assert found.rows.tolist() == [3, 3] and np.isfinite(found.trained).all()
    assert ((found.trained >= -1) & (found.trained <= 1)).all()
    body = "body.0.hook_resid_post"
    try:
        found = probes.linear(model, documents, sites=(body,), **given)
    except (
        SiteError
    ) as error:  # SpiralFormer: no vector per token; PonderLM-2: two in all but row 0
        assert "shape changes" in str(error) and model.cfg.loop.family in ("spiral", "ponder-2")
    else:
        assert found.rows.tolist() == [model.rows(body, 2)]


@pytest.mark.parametrize("name", [n for n, loop in LOOPS.items() if loop.max_depth is not None])
@pytest.mark.parametrize(
    "analysis", [probes.fixed_point, probes.lens, probes.trajectories, probes.halting]
)
def test_a_depth_that_the_loop_refuses_is_told_by_its_name(speaker, name, analysis):
    with pytest.raises(DepthError, match=r"n_iters=16: .* has 3 iterations") as caught:
        analysis(speaker(name), PROMPTS[0], n_iters=16)
    assert isinstance(caught.value, AbbieLensError)
