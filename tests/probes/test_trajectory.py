"""PCA of paths whose plane, variance and shape are known."""

import json

import numpy as np
import pytest
import torch

from abbie_lens.errors import DivergedError, InputError
from abbie_lens.loops import AbbieD
from probes import numerics
from probes.result import Result
from probes.trajectory import trajectories

STARTS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.5, -0.5, 0.5, 0.5]])


def test_rotation_lies_in_one_plane_and_keeps_its_shape(iterated, rotation):
    result = trajectories(iterated(rotation(30), STARTS[:2]), [0, 1], 11)
    assert result.n_components == 2
    assert result.explained.sum() == pytest.approx(1.0)
    steps = np.linalg.norm(np.diff(result.scores, axis=0), axis=-1)
    np.testing.assert_allclose(steps, 2 * np.sin(np.radians(15)), rtol=1e-9)
    radius = np.linalg.norm(result.centred, axis=-1)
    np.testing.assert_allclose(radius, 1.0, rtol=1e-9)


@pytest.mark.parametrize("components", [1, 2, 3])
def test_paths_with_too_few_components_for_a_second_panel(iterated, rotation, components):
    """A prompt of one token after one iteration has no more: it once broke the page."""
    result = trajectories(iterated(rotation(30), STARTS), [0, 1, 2], 11, n_components=components)
    figure = result.figure(view="paths")
    assert {trace.xaxis for trace in figure.data} == {"x"}
    assert figure.layout.xaxis.title.text.startswith("PC 1 ")


def test_paths_shows_as_many_pairs_as_asked_for(tiny_model):
    result = trajectories(tiny_model(AbbieD()), [[1, 2, 3, 4, 5, 6]], 9)
    for n_pairs in (1, 2, 3):
        figure = result.figure(view="paths", n_pairs=n_pairs)
        assert len({trace.xaxis for trace in figure.data}) == n_pairs


def test_rescaling_is_one_point_per_token_unless_raw_states_are_asked_for(iterated):
    model = iterated(lambda h, k: 2 * h, STARTS)
    on_unit = trajectories(model, [0, 1, 2], 8)
    assert on_unit.unit
    assert np.abs(on_unit.scores - on_unit.scores[0]).max() < 1e-12
    raw = trajectories(model, [0, 1, 2], 8, unit=False)
    assert np.linalg.norm(np.diff(raw.scores, axis=0), axis=-1).min() > 0.4


def test_the_last_iterations_drown_all_others_in_raw_states_only(tiny_model):
    model, tokens = tiny_model(AbbieD()), [[5, 6, 7, 8, 9, 10]]
    spread = {
        unit: np.ptp(trajectories(model, tokens, 12, unit=unit).scores[..., 0], axis=-1)
        for unit in (False, True)
    }
    assert spread[False][12] > 2**8 * spread[False][2]
    assert spread[True][12] < 4 * spread[True][2]


def test_all_components_give_back_the_states(tiny_model):
    model = tiny_model(AbbieD())
    result = trajectories(model, [[1, 2, 3, 4]], 9, n_components=32)
    with torch.no_grad():
        state = model.begin(torch.tensor([[1, 2, 3, 4]]), n_iters=9)
        for _ in range(9):
            state = model.step(state)
    rebuilt = result.mean + result.scores[9] @ result.components
    np.testing.assert_allclose(rebuilt, numerics.unit(numerics.host(state.h)), atol=1e-8)


def test_components_are_orthonormal_sorted_and_signed_by_their_largest_loading(tiny_model):
    result = trajectories(tiny_model(AbbieD()), [[1, 2, 3, 4, 5, 6]], 9)
    np.testing.assert_allclose(result.components @ result.components.T, np.eye(6), atol=1e-9)
    assert (np.diff(result.explained) <= 0).all() and result.explained.sum() < 1
    largest = np.abs(result.components).argmax(1)
    assert (result.components[np.arange(6), largest] > 0).all()
    defined = result.scores.reshape(-1, 6)
    np.testing.assert_allclose(
        defined.var(0) / defined.var(0).sum(), result.explained / result.explained.sum(), rtol=1e-6
    )


def test_padding_is_neither_shown_nor_fitted(tiny_model):
    model = tiny_model(AbbieD())
    padded = trajectories(model, [[3, 4, 5, 0, 0]], 6, attention_mask=[[1, 1, 1, 0, 0]])
    alone = trajectories(model, [[3, 4, 5]], 6)
    assert np.isnan(padded.scores[:, 0, 3:]).all()
    np.testing.assert_allclose(padded.scores[:, 0, :3], alone.scores[:, 0], atol=1e-5)
    assert set(padded.to_frame()["position"]) == {0, 1, 2}


def test_diverged_and_overflowing_states_are_left_out_with_their_iteration(iterated, rotation):
    turn = rotation(40)

    def f(h, k):
        h = turn(h, k)
        if k == 3:
            h[0, 1, 0] = float("nan")
        return h

    result = trajectories(iterated(f, STARTS[:2]), [0, 1], 8)
    assert result.diverged_at.tolist() == [[-1, 4]]
    assert np.isfinite(result.scores[:4, 0, 1]).all() and np.isnan(result.scores[4:, 0, 1]).all()
    assert np.isfinite(result.scores[:, 0, 0]).all()
    growing = iterated(lambda h, k: 2 * turn(h, k), STARTS[:2], dtype=torch.float32)
    large = trajectories(growing, [0, 1], 70)
    assert large.overflow_at.tolist() == [[63, 63]] and (large.diverged_at == -1).all()
    assert np.isfinite(large.scores[:63]).all() and np.isnan(large.scores[63:]).all()


def test_nothing_to_fit(iterated):
    broken = iterated(lambda h, k: h, STARTS * float("nan"))
    with pytest.raises(DivergedError):
        trajectories(broken, [0, 1], 3)
    still = trajectories(iterated(lambda h, k: h, STARTS), [0], 3)
    assert still.n_components == 0
    for view in ("paths", "orbits", "waterfall"):
        assert "one point" in still.figure(view=view).to_json()


def test_bad_arguments_are_named(iterated):
    model = iterated(lambda h, k: h, STARTS)
    with pytest.raises(InputError, match="n_components=0"):
        trajectories(model, [0, 1], 3, n_components=0)
    with pytest.raises(InputError, match="n_iters=-1"):
        trajectories(model, [0, 1], -1)


def test_frame_and_arrays_hold_the_result(tiny_model):
    result = trajectories(tiny_model(AbbieD()), [[1, 2, 3], [4, 5, 6]], 4, n_components=3)
    frame = result.to_frame()
    assert len(frame) == 2 * 3 * 5
    cell = frame.query("batch == 1 and position == 2 and iteration == 3").iloc[0]
    assert cell["pc2"] == result.scores[3, 1, 2, 1]
    assert cell["pc3_centred"] == result.centred[3, 1, 2, 2]
    arrays, meta = result.to_arrays()
    again = Result.from_arrays(arrays, json.loads(json.dumps(meta, allow_nan=False)))
    np.testing.assert_array_equal(again.scores, result.scores)
    assert again.tokens == result.tokens and again.unit is True
