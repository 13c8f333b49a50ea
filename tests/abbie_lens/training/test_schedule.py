"""Warmup-Stable-Decay has the values that its definition says."""

import math

import pytest

from abbie_lens.training.schedule import decay_start, wsd


@pytest.mark.parametrize(
    ("step", "linear", "sqrt"),
    [
        (0, 0.1, 0.1),
        (4, 0.5, 0.5),
        (9, 1, 1),
        (10, 1, 1),
        (80, 1, 1),
        (85, 0.75, 0.5),
        (99, 0.05, 1 - math.sqrt(0.95)),
        (100, 0, 0),
    ],
)
def test_values(step, linear, sqrt):
    assert wsd(step, 100, 10, 0.2, "linear") == pytest.approx(linear)
    assert wsd(step, 100, 10, 0.2, "sqrt") == pytest.approx(sqrt)


def test_without_decay_or_warmup_it_is_constant():
    assert {wsd(step, 50, 0, 0.0, "sqrt") for step in range(50)} == {1.0}
    assert decay_start(50, 0.0) == 50
