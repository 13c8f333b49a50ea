"""Fixed points of maps that have one, two, or none, and of a model, against SciPy's root finder."""

import numpy as np
import pytest
import scipy.optimize
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes.dynamics.solver import FixedPointSearch, find_fixed_points
from tests.abbie_lens.families import make

NEAR = torch.tensor([[0.3, 0.2, 0.1]])


def contraction(h, k):
    return h / 2 + torch.tensor([1.0, -2.0, 0.5], dtype=h.dtype) / 2


def two_points(h, k):
    """0 attracts, (1, 0, 0) repels: x² in the first coordinate, halving in the others."""
    return torch.cat([h[..., :1] ** 2, h[..., 1:] / 2], -1)


def test_a_contraction_has_its_one_point(iterated):
    found = find_fixed_points(iterated(contraction, NEAR), [0], 4, control=False)
    np.testing.assert_allclose(found.points, [[[1, -2, 0.5]]], atol=1e-8)
    np.testing.assert_allclose(found.radius, 0.5, rtol=1e-9)
    assert found.stability.tolist() == ["attracts"] and (found.found == 8).all()
    assert found.from_plain[0] < 1e-8 and found.plain_residual[0] <= 1e-9
    assert (found.applications[2, 0] < found.applications[0, 0]).all() and found.saving[0] > 3


def test_two_points_and_nothing_else(iterated):
    found = find_fixed_points(
        iterated(two_points, NEAR), [0], 1, n_starts=24, sizes=(1.0, 3.0, 20.0), control=False
    )
    order = np.argsort(found.points[:, 0, 0])
    np.testing.assert_allclose(found.points[order, 0], [[0, 0, 0], [1, 0, 0]], atol=1e-6)
    assert found.stability[order].tolist() == ["attracts", "repels"]
    np.testing.assert_allclose(found.radius[order, 0], [0.5, 2], atol=1e-6)
    ended, elsewhere = found.from_plain[order]
    assert ended < 1e-6 and elsewhere > 0.5
    assert found.found[order[1], 0] == 0  # plain iteration leaves a point that repels


def test_a_map_without_a_fixed_point_has_none(iterated):
    found = find_fixed_points(iterated(lambda h, k: h + 1, NEAR), [0], 4, control=False, limit=30)
    assert len(found.points) == 0 and (found.applications == -1).all()
    assert np.isnan(found.saving).all() and found.to_frame().empty
    assert "No start" in found.figure().layout.annotations[0].text


def test_a_direction_may_rest_where_the_state_grows(iterated):
    """diag(2, 1, 0.5): the directions of the axes rest, the first attracts."""
    scale = torch.tensor([2.0, 1.0, 0.5], dtype=torch.float64)
    model = iterated(lambda h, k: h * scale, NEAR)
    found = find_fixed_points(model, [0], 4, map="direction", control=False)
    attracting = found.points[found.stability == "attracts", 0]
    np.testing.assert_allclose(np.abs(attracting), [[1, 0, 0]] * len(attracting), atol=1e-8)
    assert len(attracting) == 2  # there and opposite


def test_an_equilibrium_model_ends_where_scipys_root_finder_does(iterated):
    """h = tanh(W h + x), ‖W‖ < 1, with an input x for every position, as in deep equilibrium models."""
    generator = torch.Generator().manual_seed(0)
    w = torch.randn(16, 16, generator=generator, dtype=torch.float64)
    w, x = (
        0.9 * w / torch.linalg.matrix_norm(w, 2),
        torch.randn(3, 16, generator=generator, dtype=torch.float64),
    )
    model = iterated(lambda h, k: torch.tanh(h @ w.T + x), torch.zeros(3, 16))
    found = find_fixed_points(model, [0, 1, 2], 3, n_starts=3, control=False)

    def residual(h):
        h = h.reshape(3, 16)
        return (np.tanh(h @ w.numpy().T + x.numpy()) - h).ravel()

    root = scipy.optimize.root(residual, np.zeros(48), method="hybr", tol=1e-12)
    assert root.success and len(found.points) == 1
    np.testing.assert_allclose(found.points[0].ravel(), root.x, atol=1e-5)
    assert found.stability.tolist() == ["attracts"]


def test_of_a_real_family_too():
    """Fresh 0pt: several points, each the root that SciPy finds from beside it."""
    model = make("0pt", seed=1, d_model=8, n_heads=2, d_head=4, d_mlp=16).double()
    tokens = torch.tensor([[1, 2]])
    found = find_fixed_points(model, tokens, 3, n_starts=6, limit=100, control=False)
    assert set(found.stability) == {"attracts", "repels"} and len(found.points) >= 3
    with torch.no_grad():
        state = model.begin(tokens, 3)
        for _ in range(2):
            state = model.step(state)

    @torch.no_grad()
    def residual(h):
        h = torch.from_numpy(h).view(1, 2, 8)
        return (model.step(model.cfg.loop.restart(model, state, h)).h - h).numpy().ravel()

    noise = np.random.default_rng(0).normal(size=16)
    for point in found.points:
        beside = point.ravel() + 1e-3 * noise
        root = scipy.optimize.root(residual, beside, method="hybr", tol=1e-12)
        assert root.success
        np.testing.assert_allclose(root.x, point.ravel(), atol=1e-5)


def test_padding_control_and_file(tiny_model):
    told = []
    found = find_fixed_points(
        make("0pt", initializer_range=0.05), [[1, 2, 3], [4, 5, 0]], 3, n_starts=2, control_seed=4, limit=100,
        attention_mask=[[1, 1, 1], [1, 1, 0]],
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1] and found.control is not None
    assert set(found.sequence) == {0, 1}
    assert np.isnan(found.radius[found.sequence == 1, 2]).all()
    for values in found.per_token().values():
        assert values.shape == (1, 2, 3) and np.isnan(values[0, 1, 2])
    again = FixedPointSearch.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.points, found.points)
    frame = found.to_frame()
    assert set(frame["weights"]) <= {"trained", "random"} and found.figure(theme="dark").data
    assert find_fixed_points(tiny_model(AbbieD()), [[1, 2]], 3, n_starts=1, limit=5).figure()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"map": "steps"}, "map='steps'"),
        ({"n_starts": 0}, "n_starts=0"),
        ({"tolerance": 0}, "tolerance=0"),
        ({"damping": 2}, "damping=2"),
        ({"sizes": (0.0,)}, "sizes="),
        ({"memory": 0}, "memory=0"),
        ({"limit": 0}, "limit=0"),
    ],
)
def test_bad_arguments_are_named(iterated, options, named):
    with pytest.raises(InputError, match=named):
        find_fixed_points(iterated(contraction, NEAR), [0], 4, control=False, **options)
