"""Risk control: what is certified holds as often as it says, on data whose risk is known."""

import numpy as np
import pytest

from abbie_lens.errors import InputError
from probes.early_exit.risk import certify, p_values

TARGET, DELTA, N = 0.1, 0.1, 60


def test_the_target_is_missed_no_more_often_than_delta():
    """A document differs in Beta-distributed shares, whose means are known; only a run of luck certifies too much."""
    means = np.linspace(0.02, 0.3, 15)
    missed = certified = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        losses = generator.beta(8 * means, 8 * (1 - means), (N, len(means)))
        # one document is careless at every threshold: losses along a row depend on each other, as they do in text
        losses = np.clip(losses * generator.uniform(0.5, 1.5, (N, 1)), 0, 1)
        chosen, _ = certify(losses, TARGET, DELTA)
        certified += chosen >= 0
        missed += chosen >= 0 and means[chosen] > TARGET
    # 100 draws at probability δ: above this in less than one case of a thousand
    assert missed <= 100 * DELTA + 3.1 * np.sqrt(100 * DELTA * (1 - DELTA))
    assert certified > 90


def test_losses_of_all_or_nothing_are_the_hard_case():
    """Bernoulli documents exactly at the target: certifying any is a mistake."""
    wrong = sum(
        certify(
            (np.random.default_rng(s).random((N, 1)) < TARGET + 1e-9).astype(float), TARGET, DELTA
        )[0]
        >= 0
        for s in range(100)
    )
    assert wrong <= 100 * DELTA + 3.1 * np.sqrt(100 * DELTA * (1 - DELTA))


def test_a_p_value_is_the_exact_one_where_it_is_known():
    # no loss at all: Hoeffding's is (1 - target)^n, which is the exact probability for all-or-nothing losses
    assert p_values(np.array([0.0]), 20, 0.1) == pytest.approx([0.9**20])
    risk = np.linspace(0, 1, 50)
    p = p_values(risk, 40, 0.2)
    assert (np.diff(p) >= -1e-12).all() and p[risk >= 0.2].min() == 1


def test_testing_stops_at_the_first_that_fails():
    losses = np.zeros((100, 3))
    losses[:, 1] = 0.5
    assert certify(losses, 0.1, 0.1)[0] == 0
    assert certify(losses[:, [1, 0]], 0.1, 0.1)[0] == -1


@pytest.mark.parametrize(
    ("losses", "target", "delta"),
    [
        ([[0.1]], 0, 0.1),
        ([[0.1]], 0.1, 1),
        ([[1.5]], 0.1, 0.1),
        ([[np.nan]], 0.1, 0.1),
        ([], 0.1, 0.1),
    ],
)
def test_bad_input_is_one_line(losses, target, delta):
    with pytest.raises(InputError, match="expected"):
        certify(np.array(losses), target, delta)
