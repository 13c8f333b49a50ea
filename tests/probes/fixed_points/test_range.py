"""Numbers too large to square, and not numbers."""

import numpy as np
import pytest
import torch

from probes import verdicts
from probes.fixed_points import METRICS
from tests.probes.fixed_points.maps import STARTS, doubling, run


def test_norm_1e30_is_exact_where_the_model_can_norm_it(iterated):
    result = run(iterated(doubling, STARTS * 1e30, dtype=torch.float64), 8)
    np.testing.assert_allclose(result.raw[:, 0, 1], 1e30 * 2.0 ** np.arange(8), rtol=1e-6)
    assert (result.overflow_at == -1).all()


def test_states_too_large_to_square_are_flagged_and_not_shown_as_truth(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float32), 70)
    assert (result.overflow_at[0, :2] == 63).all()
    for name in METRICS.keys() - {"norm", "norm_ratio", "angle", "second_order"}:
        values = result.metric(name)[:, 0, 0]
        assert np.isfinite(values[:62]).all(), name
        assert np.isnan(values[63:]).all(), name
    np.testing.assert_array_equal(result.norm[:, 0, 0], 2.0 ** np.arange(71))
    assert (result.verdict == verdicts.BELOW).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_is_reported_with_its_iteration_and_what_came_before_is_kept(iterated, bad):
    def f(h, k):
        h = h / 2 + STARTS[2].to(h.dtype)
        if k == 4:
            h[0, 1, 3] = bad
        return h

    result = run(iterated(f, STARTS))
    assert result.diverged_at.tolist() == [[-1, 5, -1]]
    assert result.verdict[0, 1] == verdicts.DIVERGES
    assert result.verdict[0, 0] == verdicts.SETTLES
    for values in (result.raw, result.direction, result.readout):
        assert np.isfinite(values[:4, 0, 1]).all() and np.isnan(values[4:, 0, 1]).all()
        assert np.isfinite(values[:, 0, [0, 2]]).all()
    assert np.isnan(result.limit_direction[:, 0, 1]).all()
    assert np.isfinite(result.limit_direction[:, 0, 0]).all()
    assert "not finite from iteration 5" in result.limit_reason


def test_float16_dies_where_its_range_ends(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float16), 20)
    assert result.diverged_at[0, 0] == 16
    assert (result.verdict == verdicts.DIVERGES).all()
