"""What a run is measured against: the end of one four times longer."""

import math

import numpy as np
import pytest
import torch

from abbie_lens.loops import AbbieD
from probes.fixed_points import METRICS, fixed_point
from tests.probes.fixed_points.maps import STARTS, halving_to, run


def test_the_limit_is_the_end_of_a_run_four_times_longer(iterated, rotation):
    """A slow rotation tells which iteration was taken: 4r, and no state that is shown."""
    model = iterated(rotation(3), STARTS[:1])
    result = fixed_point(model, [0], 10, control=False)
    assert (result.limit_iters, model.deepest.k) == (40, 40)
    turned = np.radians(3 * (40 - np.arange(11)))
    np.testing.assert_allclose(result.limit_direction[:, 0, 0], 2 * np.sin(turned / 2), rtol=1e-9)
    np.testing.assert_allclose(result.limit_readout[:, 0, 0], 2 * np.sin(turned / 2), rtol=1e-9)
    np.testing.assert_allclose(result.limit_step, 2 * math.sin(math.radians(1.5)), rtol=1e-9)


def test_distance_to_a_known_fixed_point(iterated):
    target = torch.tensor([0.0, 0.0, 1.0, 0.0])
    result = fixed_point(iterated(halving_to(target), STARTS[:1]), [0], 12, control=False)
    h = np.array([[2.0**-k, 1 - 2.0**-k] for k in range(13)])
    expected = np.linalg.norm(h / np.linalg.norm(h, axis=1)[:, None] - [0, 1], axis=1)
    np.testing.assert_allclose(result.limit_direction[:, 0, 0], expected, rtol=1e-6)
    assert (result.limit_step < 1e-12).all()


@pytest.mark.parametrize(("n_iters", "dtype"), [(8, "float32"), (20, "float64")])
def test_a_doubling_family_gets_a_limit_it_can_carry(tiny_model, n_iters, dtype):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3]], n_iters, control=False)
    assert (result.limit_iters, result.limit_dtype, result.limit_reason) == (4 * n_iters, dtype, "")
    assert (result.limit_step < 1e-9).all()
    assert (result.limit_direction[-1] < 2.0 * result.direction[-1]).all()


def test_without_a_limit_nothing_runs_longer_than_shown(iterated):
    model, whole = (
        iterated(halving_to(STARTS[2]), STARTS),
        run(iterated(halving_to(STARTS[2]), STARTS)),
    )
    result = run(model, limit_times=0)
    assert model.deepest.k == 16
    assert (result.limit_iters, result.limit_reason) == (0, "not asked for")
    for name in ("limit_direction", "limit_readout"):
        assert np.isnan(result.metric(name)).all()
    for name in set(METRICS) - {"limit_direction", "limit_readout"}:
        np.testing.assert_array_equal(result.metric(name), whole.metric(name))
    assert (result.verdict == whole.verdict).all()


@pytest.mark.parametrize("tokens_at_once", [1, 2])
def test_tokens_measured_apart_are_as_measured_together(tiny_model, monkeypatch, tokens_at_once):
    from probes import distances

    model, mask = tiny_model(AbbieD()), [[1, 1, 1, 1], [1, 1, 1, 0]]
    ids = [[1, 2, 3, 4], [5, 6, 7, 0]]
    together = fixed_point(model, ids, 6, attention_mask=mask, control=False)
    at_once = tokens_at_once * model.cfg.d_model // torch.get_num_threads()
    monkeypatch.setattr(distances, "PIECE", at_once)
    apart = fixed_point(model, ids, 6, attention_mask=mask, control=False)
    for name in METRICS:
        np.testing.assert_allclose(apart.metric(name), together.metric(name), rtol=1e-12)
    np.testing.assert_allclose(apart.closure, together.closure, rtol=1e-12)
    assert (apart.verdict == together.verdict).all()


def test_no_limit_has_a_reason(iterated, tiny_model):
    far = fixed_point(tiny_model(AbbieD(), n_body_blocks=1), [[1, 2]], 130, control=False)
    assert np.isnan(far.limit_direction).all() and far.limit_iters == 0
    assert "too large to square" in far.limit_reason and "float64" in far.limit_reason
    short = run(iterated(halving_to(STARTS[2]), STARTS, max_iters=20))
    assert np.isnan(short.limit_direction).all() and np.isnan(short.limit_step).all()
    assert "at most 20" in short.limit_reason
    assert np.isfinite(short.direction).all()


def test_a_token_lost_only_in_the_long_run_has_no_limit_and_the_others_keep_theirs(iterated):
    def f(h, k):
        h = h / 2 + STARTS[2].to(h.dtype)
        if k == 19:
            h[0, 1] = float("nan")
        return h

    result = run(iterated(f, STARTS), 8)
    assert (result.diverged_at == -1).all() and np.isfinite(result.direction).all()
    assert np.isnan(result.limit_direction[:, 0, 1]).all() and np.isnan(result.limit_step[0, 1])
    assert np.isfinite(result.limit_direction[:, 0, [0, 2]]).all()
    assert "not finite from iteration 20 of 32" in result.limit_reason


def test_a_token_that_overflows_only_in_the_long_run_has_no_limit(iterated):
    """Its state is finite there, so that only the check on size can tell."""
    growth = torch.tensor([[1.0], [1e10], [1.0]], dtype=torch.float64)
    result = run(iterated(lambda h, k: h * growth, STARTS), 4)
    assert np.isnan(result.limit_readout[:, 0, 1]).all()
    assert np.isfinite(result.limit_readout[:, 0, [0, 2]]).all()
    assert "too large to square from iteration 16 of 16 in float64" in result.limit_reason


def test_half_precision_is_measured_against_a_limit_it_cannot_freeze_at(tiny_model):
    model = tiny_model(AbbieD()).to(torch.bfloat16)
    result = fixed_point(model, [[1, 2, 3]], 12, control=False)
    assert result.limit_dtype == "float32"
    assert (result.limit_direction[-1] > 1e-4).all()
    assert model.dtype == torch.bfloat16
