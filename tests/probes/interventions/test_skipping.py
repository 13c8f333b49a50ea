"""Skipping and repeating iterations, against runs made by hand and maps whose iterations are known to do nothing."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD, Std
from probes import bundle
from probes.aggregation import ANALYSES, AggregateConfig, aggregate
from probes.class_means import class_means
from probes.interventions.skipping import skip_iterations
from tests.abbie_lens.families import LOOPS, make

R = 3
TEXTS = ["the cat sat on the mat", "the rat ran;"]


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    return make(AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


@pytest.fixture(scope="module")
def found(model):
    return skip_iterations(model, TEXTS, R)


@torch.no_grad()
def test_it_is_the_run_without_that_iteration(model, found):
    tokens, mask = model.tokenize(TEXTS)
    state = model.begin(tokens, n_iters=R, attention_mask=mask)
    state = model.step(state)  # 0; 1 is skipped, so that h_2 = 2 h_1 + 0; then 2
    state = model.step(state.replace(k=2, h=2 * state.h))
    log_q = model.readout(state).log_softmax(-1)
    log_p = model(tokens, n_iters=R, attention_mask=mask).log_softmax(-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(-1).numpy()
    np.testing.assert_allclose(found.skip_kl[1][found.valid], kl[found.valid], rtol=1e-3, atol=1e-6)
    change = (log_p - log_q)[0, :-1].gather(-1, tokens[0, 1:, None])[:, 0].numpy()
    np.testing.assert_allclose(found.skip_delta_nll[1, 0, :-1], change, rtol=1e-3, atol=1e-5)
    assert np.isnan(found.skip_delta_nll[:, 0, -1]).all()
    assert not found.alike("skip") and found.alike("repeat")  # h_{i+1} = 2 h_i + F(h_i) is one map
    assert np.isnan(found.skip_kl[:, ~found.valid]).all()


@torch.no_grad()
def test_in_a_loop_that_goes_on_plainly_skipping_any_is_one_iteration_less(tiny_tokenizer):
    """In AbbIE-C all iterations are one map, so leaving out any gives the run of depth r - 1; twice, of r + 1."""
    model = make(AbbieC(), tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    found = skip_iterations(model, TEXTS[0], R, control=False)
    log_p, less, more = (model(TEXTS[0], n_iters=r).log_softmax(-1) for r in (R, R - 1, R + 1))
    for values, log_q in ((found.skip_kl, less), (found.repeat_kl, more)):
        kl = (log_p.exp() * (log_p - log_q)).sum(-1).numpy()
        np.testing.assert_allclose(values, np.broadcast_to(kl, values.shape), rtol=1e-3, atol=1e-6)
    assert found.alike("skip") and found.alike("repeat")
    caption = next(a.text for a in found.figure().layout.annotations if a.name == "caption")
    assert "the run is the same for every i" in caption.replace("<br>", " ")


def test_an_iteration_that_does_nothing_is_not_missed(tiny_tokenizer):
    model = make(Std(), tokenizer=tiny_tokenizer, d_vocab=300)
    with torch.no_grad():
        for block in model.body:
            block.attn.o_proj.weight.zero_()
            block.mlp.out_proj.weight.zero_()
    found = skip_iterations(model, TEXTS[0], R)
    for values in found.per_token().values():
        assert np.nanmax(np.abs(values)) < 1e-5
    assert (
        np.nanmin(found.control.skip_kl) > 0
        and found.control.model.weight_hash != found.model.weight_hash
    )


def test_means_are_by_class_with_intervals_over_documents(found):
    for c, name in enumerate(found.classes[1:]):
        inside = found.token_classes == c
        values = found.skip_kl[:, inside]
        mean = found.means["skip_kl"][:, found.classes.index(name), 0]
        if inside.any():
            np.testing.assert_allclose(mean, values.mean(1))
        else:
            assert np.isnan(mean).all()
    whole = found.means["skip_kl"][:, 0]
    np.testing.assert_allclose(whole[:, 0], found.skip_kl[:, found.valid].mean(1))
    assert (whole[:, 1] <= whole[:, 0]).all() and (whole[:, 0] <= whole[:, 2]).all()


def test_intervals_cover_the_truth():
    """Documents with means of their own: 95 % intervals hold the mean of all documents nearly always."""
    rng, held = np.random.default_rng(0), 0
    for seed in range(100):
        values = rng.normal(1.0, 0.5, (30, 1)) + rng.normal(0, 1, (30, 8))
        _, low, high = class_means(values, np.zeros((30, 8), int), 1, seed)[1]
        held += low <= 1.0 <= high
    assert held >= 88
    alone = class_means(np.ones((1, 8)), np.zeros((1, 8), int), 2, 0)
    assert alone[0, 0] == 1 and np.isnan(alone[:, 1:]).all() and np.isnan(alone[2, 0])


@pytest.mark.parametrize("name", LOOPS)
def test_every_loop(tiny_tokenizer, name):
    model = make(name, tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    found = skip_iterations(model, TEXTS, R, control=False)
    assert all(np.isfinite(x[:, found.valid]).all() for x in (found.skip_kl, found.repeat_kl))
    assert found.skip_kl.shape[0] == R and (found.diverged["skip_kl"] == 0).all()


def test_over_a_corpus(model, tmp_path):
    (tmp_path / "text.txt").write_text("\n\n".join(TEXTS * 3))
    config = AggregateConfig(
        data=str(tmp_path / "text.txt"),
        out=str(tmp_path / "out"),
        n_iters=2,
        window=16,
        label="next_class",
    )
    whole = aggregate(model, config, ANALYSES["skip_iterations"])
    assert whole.mean["skip_kl"].shape[-1] == 2 and np.isfinite(whole.mean["skip_kl"][0, 0]).all()


def test_it_reads_back_is_drawn_and_refuses(model, found, tmp_path):
    back = bundle.load(bundle.save({"skipping": found}, tmp_path / "out")).results["skipping"]
    assert back.to_frame().equals(found.to_frame()) and set(back.to_frame()["weights"]) == {
        "trained",
        "random",
    }
    assert len(back.token_frame()) == R * found.valid.sum()
    for options in (
        {"metric": "delta_nll"},
        {"view": "tokens", "metric": "repeat_delta_nll", "batch": 1},
    ):
        assert back.figure(theme="dark", **options).data
    for options, named in (
        ({"metric": "x"}, "metric='x'"),
        ({"view": "tokens", "batch": 5}, "batch=5"),
    ):
        with pytest.raises(InputError, match=named):
            found.figure(**options)
    with pytest.raises(InputError, match="n_iters=0"):
        skip_iterations(model, TEXTS, 0)
    with pytest.raises(InputError, match="label='nouns'"):
        skip_iterations(model, TEXTS, 2, label="nouns")
