"""Verdicts of known maps, and their thresholds."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD
from probes import verdicts
from probes.fixed_points import fixed_point
from tests.probes.fixed_points.maps import STARTS, TOKENS, doubling, halving_to, run


def test_verdicts_of_known_maps(iterated, rotation):
    push = torch.tensor([0.0, 0.0, 0.0, 1.0])
    maps = {
        verdicts.SETTLES: halving_to(push),
        verdicts.ORBITS: rotation(100),
        verdicts.DRIFTS: rotation(5),
        verdicts.DIVERGES: rotation(100, scale=1.5),
        verdicts.BELOW: doubling,
    }
    for verdict, f in maps.items():
        assert run(iterated(f, STARTS), attention_mask=[[1, 1, 0]]).verdict.tolist() == [
            [verdict, verdict, ""]
        ]


def test_a_constant_push_drifts_however_small_its_steps(iterated):
    push = torch.tensor([0.0, 0.0, 0.0, 3.0])
    for n_iters in (8, 16, 64):
        result = run(iterated(lambda h, k: h + push.to(h.dtype), STARTS), n_iters)
        assert (result.verdict == verdicts.DRIFTS).all()


def test_three_iterations_are_too_few_to_judge(iterated):
    push = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert (run(iterated(halving_to(push), STARTS), 3).verdict == verdicts.SHORT).all()


def test_rest_jitter_is_not_an_orbit(iterated):
    """A contraction at its float32 floor: steps of rounding, back and forth."""
    generator = torch.Generator().manual_seed(0)

    def f(h, k):
        noise = torch.randn(h.shape, generator=generator, dtype=h.dtype) * 1.5e-7
        return h / 2 + STARTS[2].to(h.dtype) + noise

    result = run(iterated(f, STARTS, dtype=torch.float32), 64)
    assert (result.direction[-1] > result.thresholds["resolution"]).any()
    assert (result.verdict == verdicts.BELOW).all()


def test_abbie_d_settles_in_float32_and_is_below_resolution_in_bfloat16(tiny_model):
    tokens = [[5, 6, 7, 8, 9]]
    full = fixed_point(tiny_model(AbbieD()), tokens, 16)
    assert (full.verdict == verdicts.SETTLES).all()
    assert full.control is not None and (full.control.verdict == verdicts.SETTLES).all()
    half = fixed_point(tiny_model(AbbieD()).to(torch.bfloat16), tokens, 24)
    assert (half.direction[20:] < half.thresholds["resolution"]).all()
    assert (half.verdict == verdicts.BELOW).all()
    drifts = fixed_point(tiny_model(AbbieC()), tokens, 16, control=False)
    assert (drifts.verdict == verdicts.DRIFTS).all()


def test_thresholds_are_recorded_and_can_be_moved_without_a_run(iterated, rotation):
    model = iterated(rotation(100), STARTS)
    first = fixed_point(model, TOKENS, 16, control=False)
    again = fixed_point(model, TOKENS, 16, control=False, closure=0.01)
    moved = first.judge(closure=0.01)
    assert set(first.counts()) == {verdicts.ORBITS} and set(moved.counts()) == {verdicts.DRIFTS}
    np.testing.assert_array_equal(moved.verdict, again.verdict)
    assert moved.thresholds == again.thresholds == first.thresholds | {"closure": 0.01}
    with pytest.raises(InputError, match="closur"):
        first.judge(closur=1.0)
    with pytest.raises(InputError, match="decay=-1"):
        fixed_point(model, TOKENS, 4, decay=-1)
