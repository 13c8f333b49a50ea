"""One text, several texts or ids: the same checked batch, and clear words for what cannot run."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from probes.inputs import prepare
from probes.running import normed, states


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)


def test_text_and_its_ids_are_the_same_input(model):
    text = prepare(model, "the cat <b>ran</b>", 3)
    ids = prepare(model, text.tokens[0].tolist(), 3)
    assert torch.equal(text.tokens, ids.tokens) and text.str_tokens == ids.str_tokens
    assert text.mask is None and text.valid.all()
    assert "".join(text.str_tokens[0]).endswith("the cat <b>ran</b>")


def test_texts_are_padded_and_masked(model):
    batch = prepare(model, ["the cat sat on the mat", "cat"], 3)
    assert batch.mask is not None
    assert batch.valid.sum(1).tolist() == batch.mask.sum(1).tolist()
    assert batch.valid[0].all() and not batch.valid[1].all()
    assert {len(row) for row in batch.str_tokens} == {batch.tokens.shape[1]}


def test_a_mask_of_ones_is_no_mask(model):
    assert prepare(model, [[1, 2, 3]], 3, [[1, 1, 1]]).mask is None


@pytest.mark.parametrize(
    ("given", "mask", "named"),
    [
        ("", None, "text"),
        ("  \n", None, "text"),
        ([], None, "empty"),
        (["the", ""], None, "text"),
        ("the cat", [[1, 1]], "attention_mask"),
        ([[1, 2, 3]], [[1, 1]], "attention_mask"),
        ([[1, 2], [3, 4]], [[1, 1], [0, 0]], "attention_mask"),
        ([[1, 300]], None, "300"),
        (torch.ones(1, 65, dtype=torch.long), None, "65"),
    ],
)
def test_what_cannot_run_is_named(model, given, mask, named):
    with pytest.raises(InputError, match=named):
        prepare(model, given, 3, mask)


@pytest.mark.parametrize("n_iters", [-1, 2.0, True, None])
def test_depth_must_be_a_whole_number(model, n_iters):
    with pytest.raises(InputError, match="n_iters"):
        prepare(model, "the cat", n_iters)


def test_states_are_those_of_begin_and_step_without_gradients(model):
    inputs = prepare(model, ["the cat sat", "on"], 3)
    with torch.no_grad():
        _, cache = model.run_with_cache(
            inputs.tokens,
            n_iters=3,
            attention_mask=inputs.mask,
            names_filter=["loop.hook_state", "loop.hook_readout"],
        )
    seen = list(states(model, inputs))
    assert [s.k for s in seen] == [0, 1, 2, 3]
    for name, attribute in (("loop.hook_state", "h"), ("loop.hook_readout", "z")):
        rows = torch.stack([getattr(s, attribute) for s in seen])
        np.testing.assert_allclose(rows[:, inputs.valid], cache[name][:, inputs.valid], atol=1e-6)
    assert not seen[-1].h.requires_grad and not normed(model, seen[-1].z).requires_grad
    assert torch.is_grad_enabled()
