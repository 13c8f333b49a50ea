"""Exit arithmetic against brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from probes import exits

NAN = float("nan")


def test_exit_is_the_first_firing_after_min_iters():
    values = np.array([[0.0, 9, 9, NAN], [0.0, 9, 9, 0], [9, 0, 9, 0], [0, 0, 9, 0]])
    steps, fired = exits.exit_steps(values, 1.0, "below", min_iters=1)
    assert steps.tolist() == [1, 2, 3, 1]
    assert fired.tolist() == [True, True, False, True]
    steps, fired = exits.exit_steps(values, 1.0, "below", min_iters=2, max_iters=2)
    assert steps.tolist() == [2, 2, 2, 2]
    assert fired.tolist() == [False, True, False, True]


def test_threshold_itself_stops_only_rules_that_count_up():
    values = np.array([[0.0], [2.0]])
    assert exits.exit_steps(values, 2.0, "at_least")[1].all()
    assert not exits.exit_steps(values, 2.0, "below")[1].any()


def test_fixed_depth_mixes_the_two_nearest_depths():
    metric = np.array([[0.0, 2.0], [10.0, 12.0], [NAN, NAN]])
    assert exits.fixed_depth(metric, 0.25) == pytest.approx(0.75 * 1 + 0.25 * 11)
    assert exits.fixed_depth(metric, 1.0) == 11
    assert np.isnan(exits.fixed_depth(metric, 1.5))
    assert np.isnan(exits.fixed_depth(metric[:, :0], NAN))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(1, 5).flatmap(
        lambda n: st.tuples(
            arrays(float, (4, n), elements=st.floats(-5, 5)),
            arrays(int, n, elements=st.integers(0, 3)),
        )
    )
)
def test_random_exits_equal_all_permutations(case):
    metric, steps = case
    n = len(steps)
    means = [
        np.mean([metric[steps[j], i] for i, j in enumerate(order)])
        for order in itertools.permutations(range(n))
    ]
    mean, sd = exits.random_exit(metric, steps)
    assert mean == pytest.approx(np.mean(means), abs=1e-9)
    assert sd == pytest.approx(np.std(means), abs=1e-6)
