"""Norms and directions where squares overflow, vanish or do not exist."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from probes import numerics, vectors

# Rounded, so that no scaling makes an entry subnormal: those have fewer bits.
anything = hnp.arrays(float, 7, elements=st.floats(-1e3, 1e3)).map(lambda x: x.round(6))


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1.0, 1e30, 1e300])
def test_norm_is_right_at_every_scale(scale):
    np.testing.assert_allclose(numerics.norm(np.array([3.0, 4.0]) * scale), 5.0 * scale, rtol=1e-15)


@given(anything, st.integers(-900, 900))
def test_direction_does_not_see_powers_of_two(x, exponent):
    if np.abs(x).max() > 1e-3:
        np.testing.assert_array_equal(numerics.unit(x), numerics.unit(np.ldexp(x, exponent)))


@given(anything, anything)
def test_cosine_agrees_with_numpy(x, y):
    if min(np.linalg.norm(x), np.linalg.norm(y)) > 1e-3:
        expected = x @ y / np.linalg.norm(x) / np.linalg.norm(y)
        assert abs(numerics.cosine(x, y) - expected) < 1e-12


def test_undefined_is_nan_not_zero():
    zero, broken = np.zeros(3), np.array([1.0, np.inf, 0.0])
    assert numerics.norm(zero) == 0
    assert np.isnan(numerics.unit(zero)).all()
    assert np.isnan(numerics.cosine(zero, np.ones(3)))
    assert np.isnan(numerics.norm(broken))
    assert np.isnan(numerics.norm(np.array([np.nan, 1.0])))
    assert np.isnan(numerics.ratio(np.array(1.0), np.array(0.0)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_resolution_bounds_what_rounding_does_to_a_direction(dtype):
    x = torch.randn(4000, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    moved = numerics.norm(
        numerics.unit(numerics.host(x.to(dtype))) - numerics.unit(numerics.host(x))
    )
    assert moved.max() < numerics.resolution(dtype)
    assert moved.max() > numerics.resolution(dtype) / 4


def test_largest_norm_is_where_rms_norm_begins_to_fail():
    edge = numerics.largest_norm(torch.float32)
    assert edge == pytest.approx(2.0**63, rel=1e-6)
    inside, beyond = torch.tensor([[edge * 0.99, 0.0]]), torch.tensor([[edge * 4, 0.0]])
    norm = torch.nn.RMSNorm(2)
    assert norm(inside).abs().max() > 1.4
    assert norm(beyond).abs().max() == 0


def test_a_vector_that_cannot_be_squared_changes_no_other_in_the_batch():
    rows = np.array([[3.0, 4.0], [3e-200, 4e-200], [3e200, 4e200], [0.0, 0.0], [np.inf, 1.0]])
    expected = [5.0, 5e-200, 5e200, 0.0, np.nan]
    np.testing.assert_allclose(numerics.norm(rows), expected, rtol=1e-15)
    assert numerics.norm(rows[0]) == 5 and numerics.norm(rows[1]) == pytest.approx(5e-200)


def test_norms_on_the_device_are_those_on_the_host():
    rows = np.array([[3.0, 4.0], [3e-200, 4e-200], [3e200, 4e200], [0.0, 0.0], [np.inf, 1.0]])
    rows = np.concatenate([rows, [[np.nan, 1.0], [5e-324, 0.0]]])
    before = rows.copy()
    found = vectors.norm(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(found, numerics.norm(rows), rtol=1e-15)
    np.testing.assert_array_equal(rows, before)
    assert torch.isnan(vectors.ratio(torch.tensor(1.0), torch.tensor(0.0)))
    assert vectors.place(torch.device("mps")).type == "cpu"
    assert vectors.place(torch.device("cuda", 1)) == torch.device("cuda", 1)
