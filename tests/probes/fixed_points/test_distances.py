"""The four distances of maps whose distances are known on paper, and of AbbIE."""

import math

import numpy as np
import pytest
import torch

from abbie_lens.loops import AbbieD
from probes import verdicts
from probes.fixed_points import fixed_point
from tests.probes.fixed_points.maps import STARTS, TOKENS, doubling, run


def test_pure_rescaling_moves_no_direction(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float32))
    assert (result.direction == 0).all()
    assert (result.one_minus_cos == 0).all()
    assert (result.readout == 0).all()
    np.testing.assert_array_equal(result.raw[:, 0, 0], 2.0 ** np.arange(16))
    np.testing.assert_array_equal(result.norm[:, 0, 0], 2.0 ** np.arange(17))
    assert np.isnan(result.norm_ratio[0]).all() and (result.norm_ratio[1:] == 2).all()


@pytest.mark.parametrize(("denominator", "expected"), [("previous", 1.0), ("next", 0.5)])
def test_relative_step_names_its_denominator(iterated, denominator, expected):
    result = run(iterated(doubling, STARTS), denominator=denominator)
    np.testing.assert_allclose(result.relative, expected, rtol=1e-12)
    assert result.denominator == denominator
    assert ("hₖ₊₁‖" in result.describe("relative").formula.split("/")[1]) == (denominator == "next")


@pytest.mark.parametrize(("denominator", "expected"), [("previous", 1.0), ("next", 0.5)])
def test_relative_step_of_abbie_d_tends_to_one_or_a_half(tiny_model, denominator, expected):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3, 4]], 16, denominator=denominator)
    off = np.abs(result.relative - expected).max((1, 2))
    assert off[-1] < 1e-3 and off[0] > 5e-3


def test_rotation_has_known_steps_and_angles(iterated, rotation):
    result = run(iterated(rotation(100), STARTS), attention_mask=[[1, 1, 0]])
    steps = 2 * math.sin(math.radians(50))
    np.testing.assert_allclose(result.direction[:, 0, :2], steps, rtol=1e-9)
    np.testing.assert_allclose(
        result.one_minus_cos[:, 0, :2], 1 - math.cos(math.radians(100)), rtol=1e-9
    )
    assert np.isnan(result.angle[0]).all()
    np.testing.assert_allclose(result.angle[1:, 0, :2], math.cos(math.radians(100)), atol=1e-9)


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        ("none", 4 * math.sin(math.radians(50)) ** 2),
        ("state", 4 * math.sin(math.radians(50)) ** 2),
        ("steps", math.sin(math.radians(50))),
    ],
)
def test_second_order_step_names_its_normaliser(iterated, rotation, normaliser, expected):
    result = run(iterated(rotation(100), STARTS), 6, normaliser=normaliser)
    assert np.isnan(result.second_order[0]).all() and result.normaliser == normaliser
    np.testing.assert_allclose(result.second_order[1:, 0, :2], expected, rtol=1e-7)
    # h -> 2h: the step doubles, d' - d = d
    doubled = run(iterated(doubling, 3 * STARTS), 6, normaliser=normaliser).second_order[1:, 0, 0]
    sizes = {"none": 3 * 2.0 ** np.arange(5), "state": 0.5, "steps": 1 / 3}
    np.testing.assert_allclose(doubled, sizes[normaliser], rtol=1e-12)
    formula = result.describe("second_order").formula
    assert ("/ ‖hₖ‖" in formula, "‖ + ‖" in formula) == (
        normaliser == "state", normaliser == "steps"
    )  # fmt: skip


def test_a_constant_push_has_no_second_order_and_its_largest_entry_is_known(iterated):
    push = torch.tensor([0.0, -3.0, 0.0, 2.0])
    result = run(iterated(lambda h, k: h + push.to(h.dtype), STARTS), 6)
    assert (result.raw_largest == 3).all()
    assert np.abs(result.second_order[1:]).max() < 1e-12


def test_course_says_what_the_norm_does_beside_the_verdict(iterated, rotation, tiny_model):
    courses = {
        "grows, direction settled": doubling,
        "shrinks, direction settled": lambda h, k: h / 2,
        verdicts.ORBITS: rotation(100),
        verdicts.DIVERGES: rotation(100, scale=1.5),
    }
    for course, f in courses.items():
        found = fixed_point(iterated(f, STARTS), TOKENS[:2], 16, control=False).course
        assert found.tolist() == [[course, course]]
    tokens = [[5, 6, 7, 8, 9]]
    full = fixed_point(tiny_model(AbbieD()), tokens, 16, control=False)
    assert set(full.course.flat) == {"grows, direction settled"}
    half = fixed_point(tiny_model(AbbieD()).to(torch.bfloat16), tokens, 24, control=False)
    assert set(half.course.flat) == {"grows, direction below resolution"}


def test_direction_of_abbie_d_with_random_weights_halves_its_step(tiny_model):
    result = fixed_point(tiny_model(AbbieD()).double(), [[1, 2, 3, 4, 5]], 24, control=False)
    rate = result.direction[16:] / result.direction[15:-1]
    np.testing.assert_allclose(rate, 0.5, atol=2e-3)


def test_read_out_distances_are_of_z_under_the_final_norm(tiny_model):
    """`between` reads out B(h), not h: a distance of h in its place would differ."""
    model = tiny_model(AbbieD())
    result = fixed_point(model, [[1, 2, 3, 4, 5]], 6, control=False)
    with torch.no_grad():
        state = model.begin(torch.tensor([[1, 2, 3, 4, 5]]), n_iters=6)
        z = [state.z]
        for _ in range(6):
            state = model.step(state)
            z.append(state.z)
        n = model.ln_final(torch.stack(z)).double()
    expected = (n[1:] - n[:-1]).norm(dim=-1) / math.sqrt(model.cfg.d_model)
    np.testing.assert_allclose(result.readout, expected.numpy(), rtol=1e-6, atol=1e-9)
