"""Multipliers of maps whose spectrum is known, and of every loop against the definition of a diagonal block."""

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes.dynamics.jacobian import StepJacobian, step_map
from probes.dynamics.radii import Solver, sequence_radius, token_radii
from probes.dynamics.spectrum import Spectrum, spectrum
from probes.progress import Cancelled
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import LOOPS, make
from tests.probes.dynamics.conftest import MODULI

TOKENS = [0, 1, 2]


@pytest.mark.parametrize("method", ["arnoldi", "dense"])
@pytest.mark.parametrize("name", ["real", "pair", "defective"])
def test_prescribed_spectra_are_recovered(linear, name, method):
    found = spectrum(linear(name), TOKENS, 24, method=method, sequence=True, control=False)
    radius, error = found.radius["step"][-1], found.radius_error["step"][-1]
    off = np.abs(radius - max(MODULI[name]))
    assert off.max() < 1e-3
    assert (off <= error).all()
    moduli = np.abs(found.complex_multipliers()[-1, ..., :4])
    np.testing.assert_allclose(moduli, np.broadcast_to(MODULI[name], moduli.shape), atol=1e-3)
    assert abs(found.sequence_radius["step"][-1, 0] - max(MODULI[name])) < 1e-3
    assert np.isnan(found.radius["step"][:-1]).all() and found.at == (23,)


def test_a_turning_pair_is_seen_as_a_pair(linear):
    found = spectrum(linear("pair"), TOKENS, 4, control=False).complex_multipliers()
    np.testing.assert_allclose(np.abs(found[-1, ..., :2].imag), 0.9, atol=1e-9)
    np.testing.assert_allclose(found[-1, ..., :2].real, 0, atol=1e-9)


@pytest.mark.parametrize("name", ["real", "pair"])
def test_contraction_along_the_path(linear, rotation, iterated, name):
    model = linear(name)
    if name == "pair":  # in an orthogonal basis every step of a turning pair shrinks alike
        model = iterated(rotation(90, 0.9), torch.tensor([[1.0, 0.5], [0.2, -3.0], [2.0, 2.0]]))
    found = spectrum(model, TOKENS, 24, control=False)
    assert np.isnan(found.contraction[0]).all()
    np.testing.assert_allclose(found.contraction[-1], 0.9, atol=1e-3)


def test_large_blocks_agree_with_dense_within_their_errors(iterated):
    generator = torch.Generator().manual_seed(3)
    matrix = torch.randn(90, 90, generator=generator, dtype=torch.float64) / 90**0.5
    matrix[0, 0] += 2.0
    model = iterated(lambda h, k: torch.tanh(h @ matrix.T), torch.randn(3, 90, generator=generator))
    given = dict(control=False, maps=("step",), at=[0])
    dense = spectrum(model, TOKENS, 2, method="dense", **given)
    found = spectrum(model, TOKENS, 2, n_krylov=24, n_starts=3, **given)
    off = np.abs(found.radius["step"][0] - dense.radius["step"][0])
    assert (off / dense.radius["step"][0]).max() < 0.02
    assert (off <= found.radius_error["step"][0]).all()
    assert (found.radius_spread["step"][0] > 0).all() and found.radius_error["step"][0].max() < 0.5
    assert np.isnan(dense.radius_spread["step"]).all()


@pytest.mark.parametrize("name", LOOPS)
def test_diagonal_blocks_are_the_change_of_one_token_alone(name):
    """Forward, backward and dense, with padding, against one product a token of the whole map."""
    model = make(name, d_model=16, d_head=4, d_mlp=24).double()
    tokens = torch.randint(100, (2, 7), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(tokens)
    mask[1, :2] = 0
    with torch.no_grad():
        state = model.step(model.begin(tokens, n_iters=3, attention_mask=mask))
    # how the direction map is made of the step is the same in all that have a product for all tokens at once
    both = name in ("abbie-d", "0pt", "spiral", "ponder-2")
    for of in ("step", "direction") if both else ("step",):
        jacobian = StepJacobian(model, state, of)
        v = torch.randn(2, *state.h.shape, generator=torch.Generator().manual_seed(1)).double()
        expected = torch.zeros_like(v)
        for t in range(7):
            alone = torch.zeros_like(v)
            alone[:, :, t] = v[:, :, t]
            expected[:, :, t] = jacobian.apply(alone)[:, :, t]
        real = mask.bool()
        size = expected[:, real].abs().max()
        assert (jacobian.blocks(v) - expected)[:, real].abs().max() <= 1e-9 * size
        dense = (jacobian.dense_blocks() @ v[0][..., None])[..., 0]
        assert (dense - expected[0])[real].abs().max() <= 1e-9 * size
        other = model.cfg.loop.family not in ("spiral", "ponder-2")
        assert jacobian.in_one_pass == other, "which families need a product a token has changed"


def test_derivative_is_that_of_finite_differences():
    model = make("0pt").double()
    with torch.no_grad():
        state = model.step(model.begin(torch.tensor([[1, 2, 3]]), n_iters=3))
        v = torch.randn(state.h.shape, generator=torch.Generator().manual_seed(0)).double()
        f, size = step_map(model, state), 1e-5
        expected = (f(state.h + size * v) - f(state.h - size * v)) / (2 * size)
    found = StepJacobian(model, state).apply(v[None])[0]
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)


def test_whole_sequence_radius_is_the_largest_of_its_tokens_and_leaves_padding_out():
    model = make("0pt").double()
    tokens, mask = torch.tensor([[3, 4, 5, 6], [0, 0, 5, 6]]), torch.tensor([[1] * 4, [0, 0, 1, 1]])
    with torch.no_grad():
        state = model.step(model.begin(tokens, n_iters=3, attention_mask=mask))
    jacobian, valid = StepJacobian(model, state), mask.numpy() > 0
    blocks = token_radii(jacobian, Solver("dense")).radius.numpy()
    whole = sequence_radius(jacobian, valid, Solver("dense")).radius.numpy()
    np.testing.assert_allclose(whole, np.where(valid, blocks, 0).max(1), rtol=1e-6)
    found = sequence_radius(jacobian, valid, Solver(n_krylov=64)).radius.numpy()
    np.testing.assert_allclose(found, whole, rtol=1e-3)


def test_abbie_d_of_random_weights_settles_in_direction_at_a_half(tiny_model):
    """Steps of the direction halve, while a difference in direction stays: the path settles, and not in one place."""
    found = spectrum(tiny_model(AbbieD()), [[5, 6, 7, 8]], 24, control=False)
    np.testing.assert_allclose(found.contraction_direction[-4:], 0.5, atol=1e-3)
    np.testing.assert_allclose(found.contraction[-4:], 2, atol=1e-3)
    np.testing.assert_allclose(found.radius["step"][-1], 2, atol=1e-3)
    np.testing.assert_allclose(found.radius["direction"][-1], 1, atol=1e-3)


def test_doubling_turns_nothing(iterated):
    found = spectrum(iterated(lambda h, k: 2 * h, torch.eye(3)), TOKENS, 6, control=False)
    np.testing.assert_allclose(found.radius["step"][-1], 2, rtol=1e-12)
    np.testing.assert_allclose(found.radius["direction"][-1], 1, rtol=1e-12)
    assert np.isnan(found.contraction_direction).all()


def test_a_diverging_token_keeps_what_was_finite_and_its_iteration_is_named(iterated):
    starts = torch.tensor([[1e10, 0.5], [0.5, 0.25], [0.1, 0.2]])
    model = iterated(lambda h, k: h**4, starts)
    found = spectrum(model, TOKENS, 8, at="all", control=False)
    assert found.diverged_at.tolist() == [[2, -1, -1]]
    assert np.isfinite(found.radius["step"][0, 0, 0])
    assert np.isnan(found.radius["step"][1:, 0, 0]).all()
    assert np.isfinite(found.radius["step"][:, 0, 1:]).all()
    expected = 4 * starts.double().abs().amax(-1) ** 3
    np.testing.assert_allclose(found.radius["step"][0, 0], expected, rtol=1e-6)


def test_control_padding_table_and_file(tiny_model):
    model = tiny_model(AbbieD())
    mask = [[1, 1, 1, 1], [1, 1, 0, 0]]
    told = []
    found = spectrum(
        model, [[1, 2, 3, 4], [5, 6, 0, 0]], 3, at="all", attention_mask=mask, control_seed=7,
        n_krylov=6, progress=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told[-1][0] == told[-1][1]
    alone = spectrum(model.randomized(7), [[1, 2]], 3, at="all", control=False, n_krylov=6)
    assert found.control is not None
    np.testing.assert_allclose(
        found.control.contraction[1:, 0, :2], alone.contraction[1:, 0], rtol=1e-6
    )
    for values in found.per_token().values():
        assert values.shape == (3, 2, 4) and np.isnan(values[:, 1, 2:]).all()
    assert len(found.to_frame()) == 2 * 6 * 3
    again = Spectrum.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.radius["step"], found.radius["step"])
    for theme in ("light", "dark"):
        figure = found.figure(theme=theme, batch=1, at=0)
        shown = [trace for trace in figure.data if trace.name == "trained weights"]
        assert len(shown[0].x) == 2 * 6
    with pytest.raises(Cancelled):
        spectrum(model, [[1, 2]], 3, progress=lambda done, total: False)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_bridged_decoders(name):
    model = LoopedBridge(
        decoders.make(name, seed=3, vocab_size=300), Loop(1, 3, "damped"), None, name
    )
    model.to_str_tokens = lambda ids: [str(int(i)) for i in ids]
    given = dict(at=[1], maps=("step",), control=False)
    dense = spectrum(model, [[1, 2, 3, 4]], 2, method="dense", **given)
    found = spectrum(model, [[1, 2, 3, 4]], 2, n_krylov=64, **given)
    np.testing.assert_allclose(found.radius["step"][1], dense.radius["step"][1], rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"method": "power"}, "method='power'"),
        ({"maps": ("steps",)}, "maps="),
        ({"at": [4]}, "at="),
        ({"at": "last"}, "at='last'"),
        ({"n_krylov": 0}, "n_krylov=0"),
        ({"n_starts": 1.5}, "n_starts=1.5"),
        ({"n_multipliers": True}, "n_multipliers=True"),
        ({"n_iters": 0}, "n_iters=0"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_bad_arguments_are_named(linear, options, named):
    with pytest.raises(InputError, match=named):
        spectrum(linear("real"), TOKENS, **{"n_iters": 4, "control": False, **options})
