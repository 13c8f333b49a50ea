"""Naming the iteration from the state."""

import numpy as np
import pytest

import probes
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD

WORDS = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]


@pytest.fixture(scope="module")
def documents():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, 30)) for _ in range(10)]


def test_the_norm_of_a_doubling_state_gives_the_iteration_away(
    tiny_model, tiny_tokenizer, documents
):
    model = tiny_model(AbbieD(), tokenizer=tiny_tokenizer, d_vocab=300, seed=7)
    found = probes.which_iteration(model, documents, n_iters=3)
    assert found.confusion.shape == (4, 4) and found.majority[0] == pytest.approx(0.25, abs=0.01)
    assert np.trace(found.confusion) / found.confusion.sum() == pytest.approx(found.normalised[0])
    assert found.raw[0] > 0.3 and found.shuffled[0] < 0.4
    # this state doubles: its norm alone names the iteration, and far better than no information
    assert found.norm[0] > 0.9 and found.untrained_norm[0] > 0.9
    assert set(found.to_frame().condition) >= {
        "normalised",
        "raw",
        "norm",
        "untrained_raw",
        "majority",
    }
    for theme in ("light", "dark"):
        assert found.figure(theme=theme).data
    again = probes.Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.confusion, found.confusion)


def test_sites_without_iterations_are_refused(tiny_model, tiny_tokenizer, documents):
    model = tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)
    for site in ("head.0.hook_resid_post", "loop.hook_state@1"):
        with pytest.raises(InputError, match="two iterations"):
            probes.which_iteration(model, documents, site=site, n_iters=2)
