"""Controls, padding, tables and bad arguments."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes import verdicts
from probes.fixed_points import METRICS, fixed_point
from tests.probes.fixed_points.maps import STARTS, TOKENS, doubling, run


def test_control_is_the_same_analysis_of_fresh_weights(tiny_model):
    model = tiny_model(AbbieD())
    result = fixed_point(model, [[1, 2, 3]], 5, seed=7)
    alone = fixed_point(model.randomized(7), [[1, 2, 3]], 5, control=False)
    assert result.control is not None and result.control.control is None
    np.testing.assert_array_equal(result.control.raw, alone.raw)
    assert result.control.model.weight_hash != result.model.weight_hash
    assert np.abs(result.control.raw - result.raw).max() > 1e-3
    assert fixed_point(model, [[1, 2, 3]], 5, control=False).control is None


def test_shuffled_text_is_the_same_run_of_the_same_tokens_in_another_order(tiny_model):
    model, ids = tiny_model(AbbieD()), [[9, 8, 7, 6, 5], [3, 4, 5, 0, 0]]
    mask = [[1] * 5, [1, 1, 1, 0, 0]]
    given = dict(attention_mask=mask, control=False)
    ticks = []
    result = fixed_point(
        model, ids, 4, seed=1, shuffled_text=True, progress=lambda *t: ticks.append(t), **given
    )
    assert ticks == [(i, 4) for i in range(1, 5)]
    mixed = result.shuffled
    assert mixed is not None and mixed.shuffled is None
    assert [sorted(row) for row in mixed.tokens] == [sorted(row) for row in result.tokens]
    assert mixed.tokens[1][3:] == result.tokens[1][3:] and mixed.tokens != result.tokens
    order = [[int(token) for token in row] for row in mixed.tokens]
    alone = fixed_point(model, order, 4, **given)
    np.testing.assert_array_equal(mixed.raw, alone.raw)
    assert mixed.model.weight_hash == result.model.weight_hash
    again = fixed_point(model, ids, 4, seed=1, shuffled_text=True, **given).shuffled
    assert again is not None and again.tokens == mixed.tokens
    frame = result.to_frame()
    assert set(frame["weights"]) == {"trained", "trained, shuffled text"}
    names = {trace.name for trace in result.figure().data}
    assert "trained weights, shuffled text" in names


def test_numbers_by_token_are_levels_of_iteration_batch_and_position(tiny_model):
    mask = [[1, 1, 1], [1, 1, 0]]
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3], [4, 5, 0]], 5, attention_mask=mask)
    values = result.per_token()
    assert set(METRICS) < set(values)
    for name, value in values.items():
        assert value.ndim == 3 and value.shape[1:] == (2, 3), name
        assert np.isnan(value[:, 1, 2]).all(), name
    counted = {name: values[f"verdict {name}"] for name in verdicts.VERDICTS}
    assert {name: np.nansum(v) for name, v in counted.items() if np.nansum(v)} == result.counts()


def test_an_untrained_model_is_not_its_own_control(tiny_model):
    model = tiny_model(AbbieD(), seed=3)
    result = fixed_point(model, [[1, 2, 3]], 4, seed=3)
    assert result.control is not None
    assert result.control.model.weight_hash == model.randomized(4).info().weight_hash


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_nan_and_changes_no_token(tiny_model, side):
    model = tiny_model(AbbieD())
    row, mask = [3, 4, 5], [1, 1, 1]
    padded = [0, 0, *row] if side == "left" else [*row, 0, 0]
    keep = [0, 0, *mask] if side == "left" else [*mask, 0, 0]
    batch = fixed_point(model, [[9, 8, 7, 6, 5], padded], 6, attention_mask=[[1] * 5, keep])
    alone = fixed_point(model, [row], 6)
    real = np.array(keep, bool)
    for name in METRICS:
        assert np.isnan(batch.metric(name)[:, 1, ~real]).all(), name
        got, expected = batch.metric(name)[:, 1, real], alone.metric(name)[:, 0]
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6)
    assert (batch.verdict[1, ~real] == "").all()
    assert len(batch.to_frame()) == 2 * 7 * 8


def test_quantiles_are_over_defined_tokens_only(iterated):
    starts = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def f(h, k):
        h = 2 * h
        if k == 2:
            h[0, 3] = float("nan")
        return h

    result = fixed_point(iterated(f, starts), [0, 1, 2, 3], 4, control=False)
    low, median, high = result.quantiles("raw", (0.0, 0.5, 1.0))
    np.testing.assert_allclose(median, [2.5, 5, 8, 16])
    np.testing.assert_allclose(low, [1, 2, 4, 8])
    np.testing.assert_allclose(high, [4, 8, 12, 24])
    assert np.isnan(result.quantiles("angle")[:, 0]).all()


def test_frame_holds_every_number_once(tiny_model):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3]], 4)
    frame = result.to_frame()
    assert len(frame) == 2 * 3 * 5
    assert not frame.duplicated(["weights", "batch", "position", "iteration"]).any()
    cell = frame.query("weights == 'random' and position == 2 and iteration == 3").iloc[0]
    assert result.control is not None
    assert cell["readout"] == result.control.readout[3, 0, 2]
    assert cell["verdict"] == result.control.verdict[0, 2]
    last = frame.query("iteration == 4")
    assert last["raw"].isna().all() and last["norm"].notna().all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"denominator": "both"}, "denominator"),
        ({"normaliser": "norm"}, "normaliser"),
        ({"limit_times": 3}, "limit_times"),
        ({"n_iters": 0}, "n_iters"),
        ({"n_iters": True}, "n_iters"),
        ({"windw": 3}, "windw"),
        ({"attention_mask": [[1, 1]]}, "attention_mask"),
        ({"attention_mask": [[0, 0, 0]]}, "attention_mask"),
    ],
)
def test_bad_arguments_are_named(iterated, options, named):
    with pytest.raises(InputError, match=named):
        fixed_point(iterated(doubling, STARTS), TOKENS, **{"n_iters": 4, **options})


def test_unknown_metric_names_its_neighbours(iterated):
    with pytest.raises(InputError, match="direction"):
        run(iterated(doubling, STARTS), 4).metric("directon")
