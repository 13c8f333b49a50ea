"""Loss and accuracy by depth, against the model's own logits, with intervals over documents."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import DepthError, InputError
from abbie_lens.loops import AbbieC, AbbieD, Relaxed
from probes.dynamics.upward import upward
from probes.result import Result
from tests.abbie_lens.families import make

RNG = np.random.default_rng(0)
DOCUMENTS = [RNG.integers(1, 100, n).tolist() for n in (40, 7, 130, 64, 2)]


def by_hand(model, r):
    """Mean NLL and accuracy, every token but a document's first predicted once."""
    nll, right = [], []
    size = model.cfg.n_ctx
    for ids in DOCUMENTS:
        for at in range(0, len(ids) - 1, size - 1):
            piece = torch.tensor([ids[at : at + size]])
            with torch.no_grad():
                scores = model(piece, n_iters=r).log_softmax(-1)[0, :-1].double()
            nll += (-scores.gather(1, piece[0, 1:, None])).flatten().tolist()
            right += (scores.argmax(-1) == piece[0, 1:]).tolist()
    assert len(nll) == sum(len(ids) - 1 for ids in DOCUMENTS)
    return np.mean(nll), np.mean(right)


def test_values_are_means_over_every_token_once(tiny_model):
    model = tiny_model(AbbieD(), initializer_range=0.3)
    found = upward(model, DOCUMENTS, (1, 4), batch_size=3, control=False, n_draws=50)
    assert found.depths.tolist() == [1, 2, 4] and found.trained == 2
    assert (found.n_documents, found.n_tokens) == (5, 238)
    for column, r in enumerate((1, 2, 4)):
        np.testing.assert_allclose(found.value[:, column], by_hand(model, r), rtol=1e-4)
    np.testing.assert_allclose(found.change, found.value - found.value[:, [1]])
    assert (found.change[:, 1] == 0).all() and (found.change_high[:, 1] == 0).all()
    assert (found.low <= found.value).all() and (found.value <= found.high).all()


def test_a_loop_that_changes_nothing_has_no_change_and_no_doubt_about_it(tiny_model):
    model = tiny_model(AbbieC(), initializer_range=0.3)
    with torch.no_grad():
        for block in model.body:
            block.attn.o_proj.weight.zero_()
            block.mlp.out_proj.weight.zero_()
    found = upward(model, DOCUMENTS, (1, 8), control=False, n_draws=50)
    assert np.abs(found.change).max() < 1e-6
    assert max(np.abs(found.change_low).max(), np.abs(found.change_high).max()) < 1e-6
    assert (found.high - found.low)[0].min() > 1e-3  # the documents differ all the same


def test_a_refused_depth_is_nan_with_its_reason_and_all_refused_is_an_error():
    model = make(Relaxed(rank=2, max_iters=3, beyond="refuse"))
    found = upward(model, DOCUMENTS[:3], (1, 8), control=False, n_draws=20)
    assert found.depths.tolist() == [1, 2, 8]
    assert np.isnan(found.value[:, 2]).all() and np.isfinite(found.value[:, :2]).all()
    assert np.isnan(found.high[:, 2]).all() and np.isfinite(found.high[:, :2]).all()
    assert "3 iterations" in found.undefined[2] and found.undefined[:2] == ("", "")
    assert "3 iterations" in "".join(a.text or "" for a in found.figure().layout.annotations)


def test_a_depth_that_diverges_is_nan_and_says_so(tiny_model):
    found = upward(tiny_model(AbbieD()).half(), DOCUMENTS[:2], (1, 32), control=False, n_draws=20)
    assert np.isnan(found.value[:, -1]).all() and "not finite at n_iters=32" in found.undefined[-1]
    assert np.isfinite(found.value[:, :2]).all()


def test_texts_begin_with_the_tokenizers_first_token(tiny_model, tiny_tokenizer):
    model = tiny_model(AbbieD(), tiny_tokenizer, d_vocab=300)
    text = "the cat sat on the mat"
    found = upward(model, text, (2,), control=False, n_draws=10)
    assert found.n_documents == 1
    with torch.no_grad():
        loss = model(text, n_iters=2, return_type="loss").item()
    assert found.value[0, 0] == pytest.approx(loss, rel=1e-5)
    assert found.n_tokens == model.to_tokens(text).shape[1] - 1


def test_control_frame_file_progress_and_figure(tiny_model):
    ticks = []
    found = upward(
        tiny_model(AbbieD()), DOCUMENTS, (1, 2, 4), batch_size=4, n_draws=20, seed=5,
        progress=lambda done, total: ticks.append((done, total)),
    )  # fmt: skip
    assert ticks[-1][0] == ticks[-1][1] == len(ticks)
    assert found.control is not None and found.control.model.weight_hash != found.model.weight_hash
    frame = found.to_frame()
    assert len(frame) == 2 * 2 * 3
    cell = frame.query("weights == 'random' and measure == 'accuracy' and n_iters == 4")
    assert cell["value"].item() == found.control.value[1, 2]
    again = Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.to_frame()["change_low"], frame["change_low"])
    for theme in ("light", "dark"):
        assert found.figure(theme=theme).data


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_iters": (-1,)}, "n_iters"),
        ({"batch_size": 0}, "batch_size"),
        ({"n_draws": 0}, "n_draws"),
        ({"confidence": 1}, "confidence"),
        ({"texts": [[1], []]}, "texts"),
    ],
)
def test_bad_arguments_are_named(tiny_model, options, named):
    with pytest.raises(InputError, match=named):
        upward(tiny_model(AbbieD()), **{"texts": DOCUMENTS, **options})


def test_every_depth_refused_is_an_error(monkeypatch, tiny_model):
    model = tiny_model(AbbieD())
    monkeypatch.setattr(model, "depth", lambda r: (_ for _ in ()).throw(DepthError("none")))
    with pytest.raises(DepthError, match="no depth has values"):
        upward(model, DOCUMENTS, (1,), control=False)
