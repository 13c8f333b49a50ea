"""Paths whose shape is known on paper, and their kinds."""

import math

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieD
from probes import verdicts
from probes.dynamics.orbits import KINDS, SLIDES, WANDERS, orbits
from probes.fixed_points import fixed_point
from probes.result import Result

STARTS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.5, -0.5, 0.5, 0.5]])
TOKENS = [0, 1]


def run(model, n_iters=16, **options):
    return orbits(model, TOKENS, n_iters, **{"control": False, **options})


def test_a_rotation_is_an_orbit_of_its_period(iterated, rotation):
    found = run(iterated(rotation(90), STARTS))
    assert found.kind.tolist() == [[verdicts.ORBITS] * 2] and found.counts() == {"orbits": 2}
    np.testing.assert_array_equal(found.period, 4)
    np.testing.assert_allclose(found.recurrence, 0, atol=1e-6)
    np.testing.assert_allclose(found.turn, 0, atol=1e-6)
    np.testing.assert_allclose(found.straightness, 0, atol=1e-6)  # eight steps: twice around


def test_straightness_of_an_arc_is_chord_over_polygon(iterated, rotation):
    found = run(iterated(rotation(20), STARTS), 8, straight=0.99)
    chord, side = (2 * math.sin(math.radians(a / 2)) for a in (80, 20))
    np.testing.assert_allclose(found.straightness, chord / (4 * side), rtol=1e-6)
    assert found.kind.tolist() == [[WANDERS] * 2]
    slower = found.judge(straight=0.9)
    assert np.isnan(found.period).all() and np.isnan(found.recurrence).all()
    assert slower.kind.tolist() == [[SLIDES] * 2] and slower.thresholds["straight"] == 0.9


def test_known_maps_are_of_their_kind(iterated, rotation):
    push = torch.tensor([0.0, 0.0, 0.0, 1.0])
    maps = {
        verdicts.SETTLES: lambda h, k: (h + push.to(h.dtype)) / 2,
        SLIDES: lambda h, k: h + 3 * push.to(h.dtype),
        verdicts.DIVERGES: rotation(100, scale=1.5),
        verdicts.BELOW: lambda h, k: 2 * h,
    }
    for kind, f in maps.items():
        assert run(iterated(f, STARTS)).kind.tolist() == [[kind] * 2], kind
    assert run(iterated(rotation(20), STARTS), 3).kind.tolist() == [[verdicts.SHORT] * 2]


def test_raw_states_of_a_doubling_family_slide_and_their_directions_do_not(tiny_model):
    model = tiny_model(AbbieD())
    raw = orbits(model, [[1, 2, 3, 4]], 16, unit=False, control=False)
    assert (raw.straightness > 0.999).all() and (raw.turn > 0.999).all()
    assert set(raw.kind.flat) == {verdicts.SETTLES}  # the verdict is on the direction all the same


def test_kinds_are_the_verdicts_with_drifts_divided(tiny_model, iterated, rotation):
    for model, tokens in (
        (tiny_model(AbbieD()), [[1, 2, 3, 4, 5]]),
        (iterated(rotation(100), STARTS), TOKENS),
        (iterated(rotation(5), STARTS), TOKENS),
    ):
        verdict = fixed_point(model, tokens, 16, control=False).verdict
        kind = orbits(model, tokens, 16, control=False).kind
        undivided = np.where(np.isin(kind, (SLIDES, WANDERS)), verdicts.DRIFTS, kind)
        np.testing.assert_array_equal(undivided, verdict)


def test_a_run_that_diverges_names_the_iteration(iterated):
    def f(h, k):
        h = h * 1.0
        if k == 4:
            h[0, 1] = float("nan")
        return h / 2

    found = run(iterated(f, STARTS), 8)
    assert found.diverged_at.tolist() == [[-1, 5]]
    assert found.kind.tolist() == [[verdicts.BELOW, verdicts.DIVERGES]]
    assert np.isfinite(found.norm[:5, 0, 1]).all() and np.isnan(found.norm[5:, 0, 1]).all()


def test_numbers_by_token_frame_file_control_and_figures(tiny_model):
    ids, mask, ticks = [[1, 2, 3], [4, 5, 0]], [[1, 1, 1], [1, 1, 0]], []
    found = orbits(
        tiny_model(AbbieD()),
        ids,
        8,
        attention_mask=mask,
        seed=3,
        progress=lambda *t: ticks.append(t),
    )
    assert ticks[-1] == (18, 18)
    for name, value in found.per_token().items():
        assert value.shape == (1, 2, 3) and np.isnan(value[0, 1, 2]), name
    counted = {k: np.nansum(found.per_token()[f"kind {k}"]) for k in KINDS}
    assert {k: n for k, n in counted.items() if n} == found.counts()
    frame = found.to_frame()
    assert len(frame) == 2 * 5 and set(frame["weights"]) == {"trained", "random"}
    again = Result.from_arrays(*found.to_arrays())
    np.testing.assert_array_equal(again.per_token()["turn"], found.turn[None])
    for theme in ("light", "dark"):
        for view in ("text", "measures"):
            assert found.figure(view=view, theme=theme, batch=1).data
    with pytest.raises(InputError, match="batch=2"):
        found.figure(batch=2)


@pytest.mark.parametrize(
    ("options", "named"),
    [({"straight": 2}, "straight"), ({"strait": 0.5}, "strait"), ({"decay": -1}, "decay")],
)
def test_bad_thresholds_are_named(iterated, options, named):
    with pytest.raises(InputError, match=named):
        run(iterated(lambda h, k: h, STARTS), 4, **options)
