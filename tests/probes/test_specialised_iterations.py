"""Attention span, probes and skipping side by side."""

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes import bundle
from probes.concept_space import entry_and_exit
from probes.interventions.skipping import skip_iterations
from probes.specialised_iterations import specialisation
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import make

R = 2
TEXTS = ["the cat sat on the mat", "the rat ran;"]


@pytest.fixture(scope="module")
def model(tiny_tokenizer):
    return make(AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300, seed=7)


def test_span_is_the_mean_distance_of_what_is_attended_to(model):
    found = specialisation(model, TEXTS[0], R)
    with torch.no_grad():
        _, cache = model.run_with_cache(TEXTS[0], n_iters=R)
    pattern = cache["body.1.attn.hook_pattern@1"][0].double()  # [head, query, key]
    n = pattern.shape[-1]
    apart = torch.arange(n)[:, None] - torch.arange(n)[None]
    expected = (pattern * apart).sum(-1)[:, 1:].mean(-1)
    np.testing.assert_allclose(found.span[1, 1], expected, rtol=1e-5)
    assert found.even_span == pytest.approx((n - 1 + 1) / 4)
    np.testing.assert_array_equal(
        found.skipping.skip_kl, skip_iterations(model, TEXTS[0], R).skip_kl
    )


def test_even_attention_has_the_even_span(tiny_tokenizer):
    model = make(AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300)
    with torch.no_grad():
        for block in model.body:
            block.attn.q_proj.weight.zero_()
    found = specialisation(model, TEXTS, R)
    np.testing.assert_allclose(found.span, found.even_span, rtol=1e-5)
    assert np.isnan(found.token_span[:, ~found.valid]).all()


def test_with_a_probe_it_reads_back_and_is_drawn(model, tmp_path):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["the", "cat", "sat", "on", "mat,"], 12)) for _ in range(6)]
    found = specialisation(model, texts, R, probe="current_class")
    assert found.accuracy.shape == (R, 3) and np.isfinite(found.accuracy[:, 0]).all()
    back = bundle.load(bundle.save({"specialisation": found}, tmp_path / "out")).results[
        "specialisation"
    ]
    assert back.to_frame().equals(found.to_frame())
    assert {"span", "accuracy", "skip_kl"} <= set(back.to_frame()["measure"])
    assert back.figure(theme="dark").data and set(found.per_token()) > {"span"}


def test_what_cannot_be_is_refused(model, tiny_tokenizer):
    with pytest.raises(InputError, match="probe='current_class': probes need a list of texts"):
        specialisation(model, TEXTS[0], R, probe="current_class")
    with pytest.raises(InputError, match="is not of the tokens"):
        specialisation(make("spiral", tokenizer=tiny_tokenizer, d_vocab=300), TEXTS[0], R)


def test_a_bridged_decoder():
    model = LoopedBridge(decoders.make("gemma2"), Loop(1, 3, "abbie-d"))
    tokens = torch.tensor([[5, 9, 2, 7, 1]])
    assert np.isfinite(specialisation(model, tokens, R).span).all()
    places = entry_and_exit(model, tokens, R, control=False)
    assert len(places.places) == 1 + 1 + 3 + 1 and (places.current_rank[0] == 1).all()
