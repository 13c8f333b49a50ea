"""Sentences on maps whose answer is known: each must say what is so, and name the distance that misleads."""

import pytest
import torch

import probes
from probes import readings

STARTS = torch.randn(3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.fixture
def judged(iterated):
    """`judged(map)`: distances of h -> map(h, k) after 24 iterations, without a control."""

    def run(step):
        return probes.fixed_point(iterated(step, STARTS), [0, 1, 2], 24, control=False)

    return run


def by_name(result) -> dict[str, str]:
    return {one.name: one.says for one in readings.of(result)}


def test_a_doubling_map_converges_and_its_raw_step_misleads(judged):
    fixed = judged(lambda h, k: 2 * h + torch.ones_like(h))
    answer, because = readings.headline(fixed)
    assert answer == "It converged" and "3 of 3 tokens" in because
    says = by_name(fixed)
    assert says["raw step"].startswith("Misleads alone: it grows ×2 an iteration")
    assert "cannot reach 0" in says["relative step"]
    assert "grows ×2" in says["norm"]


def test_a_contraction_is_said_by_every_distance(judged):
    fixed = judged(lambda h, k: 0.5 * h + torch.ones_like(h))
    assert readings.headline(fixed)[0] == "It converged"
    says = by_name(fixed)
    assert "0.5 of itself" in says["raw step"] and "same as the direction" in says["raw step"]
    assert "hardly changes" in says["norm"]


def test_a_rotation_does_not_converge(judged, rotation):
    fixed = judged(rotation(30))
    answer, because = readings.headline(fixed)
    assert answer == "It did not converge" and "orbit" in because
    assert "Misleads" not in by_name(fixed)["raw step"]


def test_a_steady_drift_is_not_hidden_by_its_falling_relative_step(judged):
    push = torch.tensor([1.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    fixed = judged(lambda h, k: h + push)
    assert readings.headline(fixed)[0] == "It did not converge"
    assert by_name(fixed)["relative step"].startswith("Misleads alone: it falls because the norm")


def test_too_few_iterations_are_said(iterated):
    fixed = probes.fixed_point(iterated(lambda h, k: h + 1, STARTS), [0, 1, 2], 2, control=False)
    assert readings.headline(fixed)[0] == "Too few iterations to tell"


def test_random_weights_that_do_the_same_take_the_credit(tiny_model):
    fixed = probes.fixed_point(tiny_model(), [[1, 2, 3, 4, 5]], 16)
    assert fixed.control.counts() == {"settles": 5}
    assert "that is the architecture" in readings.headline(fixed)[1]


def test_a_family_without_injection_says_why_paths_are_undefined(tiny_model):
    found = probes.path_independence(tiny_model(), [[1, 2, 3], [3, 2, 1]], 4)
    says = by_name(found)
    assert says["basin, in lengths"] == f"Undefined for {found.reason}"


@pytest.mark.parametrize("analysis", [probes.similarity, probes.per_block, probes.attention, probes.spectrum])  # fmt: skip
def test_every_reading_has_a_value_a_control_and_a_sentence(tiny_model, analysis):
    found = readings.of(analysis(tiny_model(), [list(range(1, 13))], 4))
    assert found
    for one in found:
        assert one.says.endswith(".") and one.name and one.value == one.value
        assert one.control == one.control
