"""Intervals: known values, and coverage."""

import numpy as np
import pytest
from scipy import stats

from abbie_lens.evaluation.intervals import bootstrap, bootstrap_means, quantiles, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 5), (5, 5), (3, 20), (411, 1000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_is_scipys(right, n, confidence):
    expected = stats.binomtest(right, n).proportion_ci(confidence, method="wilson")
    assert wilson(right, n, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_stays_inside_and_knows_nothing_without_documents():
    assert wilson(0, 7)[0] == 0 and wilson(7, 7)[1] == 1
    assert np.isnan(wilson(0, 0)).all()


def test_the_bootstrap_covers_the_mean_as_often_as_it_says():
    draw = np.random.default_rng(1)
    inside = 0
    for trial in range(300):
        low, high = quantiles(bootstrap_means(draw.exponential(size=60), 300, trial), 0.9)
        inside += low < 1.0 < high
    assert 0.82 < inside / 300 < 0.94  # 0.9, a little less for a skewed sample


def test_both_bootstraps_agree_on_a_mean_and_repeat():
    values = np.random.default_rng(2).normal(size=40)
    one = bootstrap_means(values, 50, 7)
    assert (one == bootstrap_means(values, 50, 7)).all()
    assert (one != bootstrap_means(values, 50, 8)).any()
    assert bootstrap(list(values), lambda v: float(np.mean(v)), 50, 7) == pytest.approx(one)
