"""Where runs end from elsewhere: maps whose ends are known, and which loops are asked at all."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from probes.dynamics.basins import PathIndependence, path_independence
from tests.abbie_lens.families import LOOPS, make

STARTS = torch.tensor([[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, -0.8], [0.0, 0.0, 1.0]])
TARGETS = torch.tensor([[3.0, 0.0, 4.0], [0.0, 5.0, 0.0]])
BATCH = [[0, 1], [2, 3]]


def contraction(h, k):
    """Rate 0.5, to a target for every position."""
    return h / 2 + TARGETS.to(h.dtype) / 2


def injecting(model):
    model.reinjects = True
    return model


def test_a_contraction_forgets_where_it_came_from(iterated):
    found = path_independence(injecting(iterated(contraction, STARTS)), BATCH, 40, control=False)
    np.testing.assert_allclose(found.from_inputs, 1, atol=1e-9)
    np.testing.assert_allclose(found.from_noise, 1, atol=1e-9)
    np.testing.assert_array_equal(found.basin, 10.0)
    np.testing.assert_allclose(found.input_dependence, 0, atol=1e-9)
    assert not found.reason and found.still.max() < 1e-9


def test_basin_ends_where_the_push_is_still_felt(iterated):
    """h_1 is pushed by ε‖h_1‖ and the push halves r − 1 times, in a direction across the target or along it."""
    model = injecting(iterated(lambda h, k: h / 2, STARTS))
    model.f = contraction
    r, sizes = 8, (1e-3, 1e-2, 1e-1, 1.0)
    found = path_independence(model, BATCH, r, sizes=sizes, tolerance=1e-3, control=False)
    h1 = contraction(STARTS[torch.tensor(BATCH)].double(), 0).norm(dim=-1).numpy()
    most = np.array(sizes)[:, None, None] * h1 / 2 ** (r - 1) / 4.5
    assert (found.moved[:3] <= most[:3]).all() and (found.moved[:3] > 0.005 * most[:3]).all()
    inside = np.logical_and.accumulate(found.moved < 1e-3)
    np.testing.assert_array_equal(found.basin, (inside * np.array(sizes)[:, None, None]).max(0))
    assert 0 < found.basin.min() < 1.0


def test_two_attractors_bound_the_basin(iterated):
    """x² − sign: from above 0 to +1, from below to −1; a push that can cross is felt."""

    def f(h, k):
        return torch.cat([torch.tanh(3 * h[..., :1]), h[..., 1:] / 2 + 0.05], -1)

    model = injecting(iterated(f, torch.tensor([[0.9, 0.1], [-0.9, 0.1]])))
    found = path_independence(
        model, [[0], [1]], 40, n_draws=8, sizes=(0.1, 0.5, 20.0), control=False
    )
    assert (found.from_inputs < -0.9).all() and (found.input_dependence > 1.9).all()
    np.testing.assert_array_equal(found.basin, 0.5)
    assert (found.moved[-1] > 0.1).all()


@pytest.mark.parametrize("name", LOOPS)
def test_only_loops_with_injection_are_asked(name):
    model = make(name)
    found = path_independence(
        model, [[1, 2, 3], [4, 5, 6]], 3, n_draws=1, sizes=(0.1,), control=False
    )
    injects = model.cfg.loop.reinjects
    for values in (found.from_inputs, found.from_noise, found.moved, found.basin):
        assert np.isfinite(values).all() == injects and np.isnan(values).any() != injects
    assert np.isfinite(found.input_dependence).all()
    assert bool(found.reason) != injects and (injects or model.cfg.loop.family in found.reason)


def test_value_embeddings_bring_the_input_back():
    model = make("abbie-c", value_embeddings="alternate")
    assert not path_independence(model, [[1, 2, 3]], 3, control=False, n_draws=1).reason


def test_one_input_padding_control_and_file():
    model = make("0pt")
    alone = path_independence(model, [[1, 2, 3]], 4, n_draws=1, control=False)
    assert "one input" in alone.reason_inputs
    assert np.isnan(alone.from_inputs).all() and np.isfinite(alone.from_noise).all()
    told = []
    found = path_independence(
        model, [[1, 2, 3], [4, 5, 0], [6, 7, 8]], 4, n_draws=1, control_seed=5, sizes=(0.1, 1.0),
        attention_mask=[[1, 1, 1], [1, 1, 0], [1, 1, 1]],
        progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1] and found.control is not None
    for values in found.per_token().values():
        assert values.shape == (1, 3, 3) and np.isnan(values[0, 1, 2])
        assert np.isfinite(values[0][found.valid]).all()
    frame = found.to_frame()
    assert len(frame) == 2 * 8 * 2 and set(frame["size"]) == {0.1, 1.0}
    again = PathIndependence.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.moved, found.moved)
    assert {t.name for t in found.figure(theme="dark").data if t.name} == {
        "trained weights",
        "random weights",
    }
    assert make("abbie-d") and path_independence(make("abbie-d"), [[1, 2]], 3).figure()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"sizes": (1.0, 0.5)}, "sizes="),
        ({"sizes": ()}, "sizes="),
        ({"tolerance": 0}, "tolerance=0"),
        ({"n_draws": 0}, "n_draws=0"),
        ({"n_iters": 1}, "n_iters=1"),
    ],
)
def test_bad_arguments_are_named(iterated, options, named):
    with pytest.raises(InputError, match=named):
        path_independence(iterated(contraction, STARTS), BATCH, **{"n_iters": 4, **options})
