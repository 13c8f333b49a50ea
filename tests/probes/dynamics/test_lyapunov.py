"""Exponents of maps whose spectrum is known."""

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import FAMILIES, AbbieD
from probes.dynamics.lyapunov import Lyapunov, lyapunov
from tests.abbie_lens.families import make
from tests.probes.dynamics.conftest import MODULI


@pytest.mark.parametrize("name", ["real", "pair"])
def test_prescribed_spectra_are_recovered(linear, name):
    found = lyapunov(linear(name), [0, 1, 2], 120, n_exponents=4, transient=60, control=False)
    expected = np.log(MODULI[name])
    np.testing.assert_allclose(found.exponents[0], np.broadcast_to(expected, (3, 4)), atol=1e-3)
    # Three tokens with the same map: every exponent of the sequence comes three times.
    np.testing.assert_allclose(found.sequence_exponents[0], np.repeat(expected, 3)[:4], atol=1e-3)


def test_a_defective_map_is_off_by_what_its_jordan_block_says(linear):
    """One block of size 3: 2 log(n/t) / (n − t) above and below, and the middle one at the limit."""
    n, t = 160, 80
    found = lyapunov(linear("defective"), [0, 1, 2], n, n_exponents=3, transient=t, control=False)
    stated = 2 * np.log(n / t) / (n - t)
    expected = np.broadcast_to(np.log(0.8) + np.array([stated, 0, -stated]), (3, 3))
    np.testing.assert_allclose(found.exponents[0], expected, atol=5e-4)
    assert (np.abs(found.exponents - np.log(0.8)) <= 3.5 * found.error + 1e-4).all()


@pytest.mark.parametrize("name", ["parcae", "abbie-c", "relaxed"])
def test_products_of_blocks_are_the_derivative_of_the_whole_run(name):
    """Of a causal model, so the growth that is added up is the log of its volume."""
    model = make(name).double()
    tokens = torch.tensor([[3, 4, 5]])
    found = lyapunov(model, tokens, 3, n_exponents=32, transient=0, control=False)
    with torch.no_grad():
        begun = model.begin(tokens, 3)

    def end(h_t):
        h = torch.cat([begun.h[:, :1], h_t[None, None], begun.h[:, 2:]], 1)
        state = model.cfg.loop.restart(model, begun, h)
        for _ in range(3):
            state = model.step(state)
        return state.h[0, 1]

    whole = torch.autograd.functional.jacobian(end, begun.h[0, 1])
    expected = torch.linalg.slogdet(whole)[1].item()
    np.testing.assert_allclose(found.growth[:, 0, 1].sum(), expected, rtol=1e-6)


def test_divergence_padding_control_and_file(tiny_model, iterated):
    model = iterated(lambda h, k: h**4, torch.tensor([[1e10, 0.5], [0.9, 0.8]]))
    found = lyapunov(model, [0, 1], 6, n_exponents=3, control=False)
    assert found.diverged_at.tolist() == [[2, -1]]
    assert np.isnan(found.exponents[0, 0]).all() and np.isfinite(found.exponents[0, 1, :2]).all()
    assert np.isfinite(found.growth[0, 0, 0, :2]).all()
    assert np.isnan(found.exponents[..., 2]).all()  # there are two dimensions

    found = lyapunov(
        tiny_model(AbbieD()), [[1, 2, 3], [4, 5, 0]], 4, map="direction", control_seed=3,
        attention_mask=[[1, 1, 1], [1, 1, 0]],
    )  # fmt: skip
    assert found.control is not None and found.control.model.name != found.model.name
    for values in found.per_token().values():
        assert values.shape == (1, 2, 3) and np.isnan(values[0, 1, 2])
    again = Lyapunov.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.exponents, found.exponents)
    assert len(found.to_frame()) == 2 * 5 * 4
    assert {t.name for t in found.figure(theme="dark").data} == {
        "trained weights",
        "random weights",
    }


@pytest.mark.parametrize("name", FAMILIES)
def test_every_loop(name):
    model = make(name)
    found = lyapunov(
        model, torch.tensor([[1, 2, 3, 4, 5]]), 3, n_exponents=2, transient=1, control=False
    )
    assert found.exponents.shape == (1, 5, 2) and (found.diverged_at == -1).all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_exponents": 0}, "n_exponents=0"),
        ({"map": "steps"}, "map='steps'"),
        ({"transient": 4}, "transient=4"),
        ({"transient": -1}, "transient=-1"),
    ],
)
def test_bad_arguments_are_named(linear, options, named):
    with pytest.raises(InputError, match=named):
        lyapunov(linear("real"), [0], 4, control=False, **options)
