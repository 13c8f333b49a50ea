"""The window to loop: angles and knee of known curves, losses equal to those of models looped there, by document."""

import itertools

import numpy as np
import pytest
import torch

import probes
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from probes import bundle, splits
from probes.progress import Cancelled
from probes.split_documents import ratio_intervals
from probes.splits import knee
from tests.abbie_lens.bridged import decoders

TOKENS = torch.randint(0, decoders.VOCABULARY, (2, 9), generator=torch.Generator().manual_seed(4))


def test_the_knee_is_where_a_curve_turns_flat():
    assert knee(np.array([1.0, 0.6, 0.2, 0.19, 0.18, 0.17])) == 2
    assert knee(np.array([0.9, 0.1, 0.1, 0.1])) == 1


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_losses_are_those_of_models_looped_there(name):
    model = LoopedBridge(decoders.make(name), Loop(0, 1))
    found = probes.split(model, TOKENS, n_iters=3, rule="damped", lengths=(1, 2, 4))
    assert found.loss.shape == (4, 3)
    assert np.isnan(found.loss).tolist() == [[s + n > 4 for n in (1, 2, 4)] for s in range(4)]
    for (s, n), (start, stop) in {(1, 1): (1, 3), (3, 0): (3, 4), (0, 2): (0, 4)}.items():
        looped = LoopedBridge(decoders.make(name), Loop(start, stop, "damped"))
        with torch.no_grad():
            expected = float(looped(TOKENS, n_iters=3, return_type="loss"))
        assert found.loss[s, n] == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        plain = decoders.make(name)(TOKENS, output_hidden_states=True)
    x = [h.double() for h in plain.hidden_states]
    cosine = torch.cosine_similarity(x[1], x[2], dim=-1)
    assert found.angular[1] == pytest.approx(float(cosine.arccos().mean()) / np.pi, abs=1e-6)
    assert found.loss[found.best[0]].min() >= 0 and len(found.to_frame()) == 8
    assert found.figure() and found.figure(view="loss")


def test_only_bridged_models_have_a_window_to_choose(tiny_model):
    with pytest.raises(InputError, match="LoopedBridge"):
        probes.split(tiny_model(), TOKENS)
    with pytest.raises(InputError, match="no window fits"):
        probes.split(plain("gpt2"), TOKENS, lengths=(9,))
    for wrong in (dict(lengths=(0,)), dict(starts=(-1,)), dict(starts=[]), dict(n_iters=0)):
        with pytest.raises(InputError, match=next(iter(wrong))):
            probes.split(plain("gpt2"), TOKENS, **wrong)
    with pytest.raises(InputError, match="no document has two tokens"):
        probes.split(plain("gpt2"), TOKENS[:, :1])


def plain(name="llama", tokenizer=None, **changes):
    return LoopedBridge(decoders.make(name, **changes), Loop(0, 1), tokenizer)


@pytest.fixture
def texts():
    rng = np.random.default_rng(1)
    words = ["the", "cat", "sat", "on", "mat,", "and", "rat", "ran;", "then", "ran."]
    return [" ".join(rng.choice(words, n)) for n in (3, 20, 60, 9, 30)]


def test_documents_are_read_one_by_one_and_long_ones_in_pieces(texts, tiny_tokenizer, monkeypatch):
    model, read = plain(tokenizer=tiny_tokenizer, vocab_size=300), []
    window = splits.sums.window_logits
    monkeypatch.setattr(
        splits.sums, "window_logits", lambda m, loop, t, *a: (read.append(t), window(m, loop, t, *a))[1]
    )  # fmt: skip
    told = []
    found = probes.split(
        model, texts, 2, lengths=(2,), control=False, progress=lambda *p: told.append(p)
    )
    assert {t.shape[0] for t in read} == {1} and max(t.shape[1] for t in read) == model.cfg.n_ctx
    assert found.n_documents == 5 and told[-1] == (5 * 5, 5 * 5) and told == sorted(told)
    # plain and three windows; with a first token of its own, every token of a text has one before it
    assert sum(t.shape[1] - 1 for t in read) == 4 * found.n_targets
    assert found.n_targets == sum(model.to_tokens(t, prepend_bos=False).shape[1] for t in texts)
    with pytest.raises(Cancelled):
        probes.split(model, texts, 2, progress=lambda done, total: done < 7)


def test_bounds_are_of_documents_and_of_the_difference_on_the_same_documents(texts, tiny_tokenizer):
    model = plain(tokenizer=tiny_tokenizer, vocab_size=300)
    found = probes.split(model, texts, 2, lengths=(1, 2), seed=5)
    there = np.isfinite(found.loss)
    for low, value, high in (
        (found.loss_low, found.loss, found.loss_high),
        (found.added_low, found.added, found.added_high),
    ):
        assert (low <= value)[there].all() and (value <= high)[there].all()
        assert np.isnan(low[~there]).all()
    assert (found.angular_low <= found.angular).all() and (
        found.angular <= found.angular_high
    ).all()
    assert found.control.shape == found.angular.shape
    assert np.abs(found.control - found.angular).max() > 1e-4
    one = probes.split(model, texts[1], 2, lengths=(1,), control=False)
    assert one.n_documents == 1 and np.isnan(one.loss_low).all() and np.isnan(one.control).all()
    assert one.to_frame()["added_low"].isna().all() and len(one.to_frame()) == 4


def test_a_ratios_interval_is_that_of_all_its_draws():
    """Three documents: the 27 equally likely draws say what the percentiles are near."""
    sums, counts = np.array([1.0, 8.0, 3.0]), np.array([1.0, 4.0, 1.0])
    every = [
        sums[list(draw)].sum() / counts[list(draw)].sum()
        for draw in itertools.product(range(3), repeat=3)
    ]
    low, high = ratio_intervals(sums[:, None], counts, 4000, seed=0)
    expected = np.quantile(np.repeat(every, 1000), [0.025, 0.975])
    np.testing.assert_allclose([low[0], high[0]], expected, atol=1e-9)


def test_a_padded_batch_is_its_documents(tiny_tokenizer):
    model, mask = plain(), torch.ones_like(TOKENS)
    mask[1, 5:] = 0
    padded = probes.split(model, TOKENS, 2, lengths=(2,), attention_mask=mask, control=False)
    alone = [
        probes.split(model, t, 2, lengths=(2,), control=False) for t in (TOKENS[0], TOKENS[1, :5])
    ]
    expected = (8 * alone[0].loss + 4 * alone[1].loss) / 12
    np.testing.assert_allclose(padded.loss, expected, rtol=1e-5)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_in_the_house_style_and_say_what_they_show(theme, tmp_path):
    found = probes.split(plain("gpt2"), TOKENS, 2, rule="damped")
    for view in ("distances", "loss"):
        figure = found.figure(theme=theme, view=view)
        said = figure.layout.title.subtitle.text + "".join(
            a.text for a in figure.layout.annotations
        )
        assert "r = 2 · damped" in said and "2 documents, 16 tokens" in said and "95%" in said
    drawn = found.figure(theme=theme).data
    assert [t.name for t in drawn if t.name] == ["model", "random weights"]
    assert drawn[1].line.dash != drawn[2].line.dash
    cells = next(t for t in found.figure(theme=theme, view="loss").data if t.type == "heatmap")
    np.testing.assert_array_equal(np.array(cells.z, dtype=float), found.added)
    assert cells.zmin == -cells.zmax and cells.zmid == 0
    with pytest.raises(InputError, match="view='map'"):
        found.figure(view="map")
    back = bundle.load(bundle.save({"split": found}, tmp_path / "out")).results["split"]
    assert back.best == found.best and back.to_frame().equals(found.to_frame())
