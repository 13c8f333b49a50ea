"""What bounds acceleration, on matrices for which the bound is known."""

import torch

from benchmarks.fixed_points import residuals


def test_a_few_far_eigenvalues_are_taken_away_and_a_circle_is_not():
    n = 40
    r = torch.ones(n, dtype=torch.float64)
    few = torch.full((n,), 0.1, dtype=torch.float64)
    few[:2] = torch.tensor([0.9, -0.8])
    least, plain = residuals(lambda v: few * v, r, 6)
    assert least[3] < 1e-12 < least[2]
    expected = torch.stack([(few**k * r).norm() / r.norm() for k in range(7)])
    torch.testing.assert_close(plain, expected)
    # 0.5 times a cyclic shift: eigenvalues all round the circle of radius 1/2
    start = torch.zeros(n, dtype=torch.float64)
    start[0] = 1
    least, plain = residuals(lambda v: 0.5 * v.roll(1), start, 6)
    powers = 0.5 ** torch.arange(7, dtype=torch.float64)
    torch.testing.assert_close(plain, powers)
    assert (least > 0.85 * powers).all() and (least <= powers + 1e-12).all()
