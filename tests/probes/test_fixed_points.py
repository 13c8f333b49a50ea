"""Distances of maps whose distances are known on paper, and of AbbIE models whose limits are."""

import math

import numpy as np
import pytest
import torch

from abbie_lens.errors import InputError
from abbie_lens.loops import AbbieC, AbbieD
from probes import verdicts
from probes.fixed_points import METRICS, fixed_point

STARTS = torch.tensor([[1.0, 0.0, 0.0, 0.0], [0.6, 0.8, 0.0, 0.0], [0.5, -0.5, 0.5, 0.5]])
TOKENS = [0, 1, 2]


def run(model, n_iters=16, **options):
    return fixed_point(model, TOKENS, n_iters, **{"control": False, **options})


def doubling(h, k):
    return 2 * h


def halving_to(target):
    return lambda h, k: (h + target.to(h.dtype)) / 2


# -- the four distances ------------------------------------------------------------------------------


def test_pure_rescaling_moves_no_direction(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float32))
    assert (result.direction == 0).all()
    assert (result.one_minus_cos == 0).all()
    assert (result.readout == 0).all()
    np.testing.assert_array_equal(result.raw[:, 0, 0], 2.0 ** np.arange(16))
    np.testing.assert_array_equal(result.norm[:, 0, 0], 2.0 ** np.arange(17))
    assert np.isnan(result.norm_ratio[0]).all() and (result.norm_ratio[1:] == 2).all()


@pytest.mark.parametrize(("denominator", "expected"), [("previous", 1.0), ("next", 0.5)])
def test_relative_step_names_its_denominator(iterated, denominator, expected):
    result = run(iterated(doubling, STARTS), denominator=denominator)
    np.testing.assert_allclose(result.relative, expected, rtol=1e-12)
    assert result.denominator == denominator
    assert ("hₖ₊₁‖" in result.describe("relative").formula.split("/")[1]) == (denominator == "next")


@pytest.mark.parametrize(("denominator", "expected"), [("previous", 1.0), ("next", 0.5)])
def test_relative_step_of_abbie_d_tends_to_one_or_a_half(tiny_model, denominator, expected):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3, 4]], 16, denominator=denominator)
    off = np.abs(result.relative - expected).max((1, 2))
    assert off[-1] < 1e-3 and off[0] > 5e-3


def test_rotation_has_known_steps_and_angles(iterated, rotation):
    result = run(iterated(rotation(100), STARTS), attention_mask=[[1, 1, 0]])
    steps = 2 * math.sin(math.radians(50))
    np.testing.assert_allclose(result.direction[:, 0, :2], steps, rtol=1e-9)
    np.testing.assert_allclose(
        result.one_minus_cos[:, 0, :2], 1 - math.cos(math.radians(100)), rtol=1e-9
    )
    assert np.isnan(result.angle[0]).all()
    np.testing.assert_allclose(result.angle[1:, 0, :2], math.cos(math.radians(100)), atol=1e-9)


@pytest.mark.parametrize(
    ("normaliser", "expected"),
    [
        ("none", 4 * math.sin(math.radians(50)) ** 2),
        ("state", 4 * math.sin(math.radians(50)) ** 2),
        ("steps", math.sin(math.radians(50))),
    ],
)
def test_second_order_step_names_its_normaliser(iterated, rotation, normaliser, expected):
    result = run(iterated(rotation(100), STARTS), 6, normaliser=normaliser)
    assert np.isnan(result.second_order[0]).all() and result.normaliser == normaliser
    np.testing.assert_allclose(result.second_order[1:, 0, :2], expected, rtol=1e-7)
    # h -> 2h: the step doubles, d' - d = d
    doubled = run(iterated(doubling, 3 * STARTS), 6, normaliser=normaliser).second_order[1:, 0, 0]
    sizes = {"none": 3 * 2.0 ** np.arange(5), "state": 0.5, "steps": 1 / 3}
    np.testing.assert_allclose(doubled, sizes[normaliser], rtol=1e-12)
    formula = result.describe("second_order").formula
    assert ("/ ‖hₖ‖" in formula, "‖ + ‖" in formula) == (
        normaliser == "state", normaliser == "steps"
    )  # fmt: skip


def test_a_constant_push_has_no_second_order_and_its_largest_entry_is_known(iterated):
    push = torch.tensor([0.0, -3.0, 0.0, 2.0])
    result = run(iterated(lambda h, k: h + push.to(h.dtype), STARTS), 6)
    assert (result.raw_largest == 3).all()
    assert np.abs(result.second_order[1:]).max() < 1e-12


def test_course_says_what_the_norm_does_beside_the_verdict(iterated, rotation, tiny_model):
    courses = {
        "grows, direction settled": doubling,
        "shrinks, direction settled": lambda h, k: h / 2,
        verdicts.ORBITS: rotation(100),
        verdicts.DIVERGES: rotation(100, scale=1.5),
    }
    for course, f in courses.items():
        found = fixed_point(iterated(f, STARTS), TOKENS[:2], 16, control=False).course
        assert found.tolist() == [[course, course]]
    tokens = [[5, 6, 7, 8, 9]]
    full = fixed_point(tiny_model(AbbieD()), tokens, 16, control=False)
    assert set(full.course.flat) == {"grows, direction settled"}
    half = fixed_point(tiny_model(AbbieD()).to(torch.bfloat16), tokens, 24, control=False)
    assert set(half.course.flat) == {"grows, direction below resolution"}


def test_direction_of_abbie_d_with_random_weights_halves_its_step(tiny_model):
    result = fixed_point(tiny_model(AbbieD()).double(), [[1, 2, 3, 4, 5]], 24, control=False)
    rate = result.direction[16:] / result.direction[15:-1]
    np.testing.assert_allclose(rate, 0.5, atol=2e-3)


def test_read_out_distances_are_of_z_under_the_final_norm(tiny_model):
    """`between` reads out B(h), not h: a distance of h in its place would differ."""
    model = tiny_model(AbbieD())
    result = fixed_point(model, [[1, 2, 3, 4, 5]], 6, control=False)
    with torch.no_grad():
        state = model.begin(torch.tensor([[1, 2, 3, 4, 5]]), n_iters=6)
        z = [state.z]
        for _ in range(6):
            state = model.step(state)
            z.append(state.z)
        n = model.ln_final(torch.stack(z)).double()
    expected = (n[1:] - n[:-1]).norm(dim=-1) / math.sqrt(model.cfg.d_model)
    np.testing.assert_allclose(result.readout, expected.numpy(), rtol=1e-6, atol=1e-9)


# -- numbers too large, and not numbers --------------------------------------------------------------


def test_norm_1e30_is_exact_where_the_model_can_norm_it(iterated):
    result = run(iterated(doubling, STARTS * 1e30, dtype=torch.float64), 8)
    np.testing.assert_allclose(result.raw[:, 0, 1], 1e30 * 2.0 ** np.arange(8), rtol=1e-6)
    assert (result.overflow_at == -1).all()


def test_states_too_large_to_square_are_flagged_and_not_shown_as_truth(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float32), 70)
    assert (result.overflow_at[0, :2] == 63).all()
    for name in METRICS.keys() - {"norm", "norm_ratio", "angle", "second_order"}:
        values = result.metric(name)[:, 0, 0]
        assert np.isfinite(values[:62]).all(), name
        assert np.isnan(values[63:]).all(), name
    np.testing.assert_array_equal(result.norm[:, 0, 0], 2.0 ** np.arange(71))
    assert (result.verdict == verdicts.BELOW).all()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_divergence_is_reported_with_its_iteration_and_what_came_before_is_kept(iterated, bad):
    def f(h, k):
        h = h / 2 + STARTS[2].to(h.dtype)
        if k == 4:
            h[0, 1, 3] = bad
        return h

    result = run(iterated(f, STARTS))
    assert result.diverged_at.tolist() == [[-1, 5, -1]]
    assert result.verdict[0, 1] == verdicts.DIVERGES
    assert result.verdict[0, 0] == verdicts.SETTLES
    for values in (result.raw, result.direction, result.readout):
        assert np.isfinite(values[:4, 0, 1]).all() and np.isnan(values[4:, 0, 1]).all()
        assert np.isfinite(values[:, 0, [0, 2]]).all()
    assert np.isnan(result.limit_direction[:, 0, 1]).all()
    assert np.isfinite(result.limit_direction[:, 0, 0]).all()
    assert "not finite from iteration 5" in result.limit_reason


def test_float16_dies_where_its_range_ends(iterated):
    result = run(iterated(doubling, STARTS, dtype=torch.float16), 20)
    assert result.diverged_at[0, 0] == 16
    assert (result.verdict == verdicts.DIVERGES).all()


# -- the limit ---------------------------------------------------------------------------------------


def test_the_limit_is_the_end_of_a_run_four_times_longer(iterated, rotation):
    """A slow rotation tells which iteration was taken: 4r, and no state that is shown."""
    model = iterated(rotation(3), STARTS[:1])
    result = fixed_point(model, [0], 10, control=False)
    assert (result.limit_iters, model.deepest.k) == (40, 40)
    turned = np.radians(3 * (40 - np.arange(11)))
    np.testing.assert_allclose(result.limit_direction[:, 0, 0], 2 * np.sin(turned / 2), rtol=1e-9)
    np.testing.assert_allclose(result.limit_readout[:, 0, 0], 2 * np.sin(turned / 2), rtol=1e-9)
    np.testing.assert_allclose(result.limit_step, 2 * math.sin(math.radians(1.5)), rtol=1e-9)


def test_distance_to_a_known_fixed_point(iterated):
    target = torch.tensor([0.0, 0.0, 1.0, 0.0])
    result = fixed_point(iterated(halving_to(target), STARTS[:1]), [0], 12, control=False)
    h = np.array([[2.0**-k, 1 - 2.0**-k] for k in range(13)])
    expected = np.linalg.norm(h / np.linalg.norm(h, axis=1)[:, None] - [0, 1], axis=1)
    np.testing.assert_allclose(result.limit_direction[:, 0, 0], expected, rtol=1e-6)
    assert (result.limit_step < 1e-12).all()


@pytest.mark.parametrize(("n_iters", "dtype"), [(8, "float32"), (20, "float64")])
def test_a_doubling_family_gets_a_limit_it_can_carry(tiny_model, n_iters, dtype):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3]], n_iters, control=False)
    assert (result.limit_iters, result.limit_dtype, result.limit_reason) == (4 * n_iters, dtype, "")
    assert (result.limit_step < 1e-9).all()
    assert (result.limit_direction[-1] < 2.0 * result.direction[-1]).all()


def test_without_a_limit_nothing_runs_longer_than_shown(iterated):
    model, whole = (
        iterated(halving_to(STARTS[2]), STARTS),
        run(iterated(halving_to(STARTS[2]), STARTS)),
    )
    result = run(model, limit_times=0)
    assert model.deepest.k == 16
    assert (result.limit_iters, result.limit_reason) == (0, "not asked for")
    for name in ("limit_direction", "limit_readout"):
        assert np.isnan(result.metric(name)).all()
    for name in set(METRICS) - {"limit_direction", "limit_readout"}:
        np.testing.assert_array_equal(result.metric(name), whole.metric(name))
    assert (result.verdict == whole.verdict).all()


@pytest.mark.parametrize("tokens_at_once", [1, 2])
def test_tokens_measured_apart_are_as_measured_together(tiny_model, monkeypatch, tokens_at_once):
    from probes import distances

    model, mask = tiny_model(AbbieD()), [[1, 1, 1, 1], [1, 1, 1, 0]]
    ids = [[1, 2, 3, 4], [5, 6, 7, 0]]
    together = fixed_point(model, ids, 6, attention_mask=mask, control=False)
    at_once = tokens_at_once * model.cfg.d_model // torch.get_num_threads()
    monkeypatch.setattr(distances, "PIECE", at_once)
    apart = fixed_point(model, ids, 6, attention_mask=mask, control=False)
    for name in METRICS:
        np.testing.assert_allclose(apart.metric(name), together.metric(name), rtol=1e-12)
    np.testing.assert_allclose(apart.closure, together.closure, rtol=1e-12)
    assert (apart.verdict == together.verdict).all()


def test_no_limit_has_a_reason(iterated, tiny_model):
    far = fixed_point(tiny_model(AbbieD(), n_body_blocks=1), [[1, 2]], 130, control=False)
    assert np.isnan(far.limit_direction).all() and far.limit_iters == 0
    assert "too large to square" in far.limit_reason and "float64" in far.limit_reason
    short = run(iterated(halving_to(STARTS[2]), STARTS, max_iters=20))
    assert np.isnan(short.limit_direction).all() and np.isnan(short.limit_step).all()
    assert "at most 20" in short.limit_reason
    assert np.isfinite(short.direction).all()


def test_a_token_lost_only_in_the_long_run_has_no_limit_and_the_others_keep_theirs(iterated):
    def f(h, k):
        h = h / 2 + STARTS[2].to(h.dtype)
        if k == 19:
            h[0, 1] = float("nan")
        return h

    result = run(iterated(f, STARTS), 8)
    assert (result.diverged_at == -1).all() and np.isfinite(result.direction).all()
    assert np.isnan(result.limit_direction[:, 0, 1]).all() and np.isnan(result.limit_step[0, 1])
    assert np.isfinite(result.limit_direction[:, 0, [0, 2]]).all()
    assert "not finite from iteration 20 of 32" in result.limit_reason


def test_a_token_that_overflows_only_in_the_long_run_has_no_limit(iterated):
    """Its state is finite there, so that only the check on size can tell."""
    growth = torch.tensor([[1.0], [1e10], [1.0]], dtype=torch.float64)
    result = run(iterated(lambda h, k: h * growth, STARTS), 4)
    assert np.isnan(result.limit_readout[:, 0, 1]).all()
    assert np.isfinite(result.limit_readout[:, 0, [0, 2]]).all()
    assert "too large to square from iteration 16 of 16 in float64" in result.limit_reason


def test_half_precision_is_measured_against_a_limit_it_cannot_freeze_at(tiny_model):
    model = tiny_model(AbbieD()).to(torch.bfloat16)
    result = fixed_point(model, [[1, 2, 3]], 12, control=False)
    assert result.limit_dtype == "float32"
    assert (result.limit_direction[-1] > 1e-4).all()
    assert model.dtype == torch.bfloat16


# -- verdicts ----------------------------------------------------------------------------------------


def test_verdicts_of_known_maps(iterated, rotation):
    push = torch.tensor([0.0, 0.0, 0.0, 1.0])
    maps = {
        verdicts.SETTLES: halving_to(push),
        verdicts.ORBITS: rotation(100),
        verdicts.DRIFTS: rotation(5),
        verdicts.DIVERGES: rotation(100, scale=1.5),
        verdicts.BELOW: doubling,
    }
    for verdict, f in maps.items():
        assert run(iterated(f, STARTS), attention_mask=[[1, 1, 0]]).verdict.tolist() == [
            [verdict, verdict, ""]
        ]


def test_a_constant_push_drifts_however_small_its_steps(iterated):
    push = torch.tensor([0.0, 0.0, 0.0, 3.0])
    for n_iters in (8, 16, 64):
        result = run(iterated(lambda h, k: h + push.to(h.dtype), STARTS), n_iters)
        assert (result.verdict == verdicts.DRIFTS).all()


def test_three_iterations_are_too_few_to_judge(iterated):
    push = torch.tensor([0.0, 0.0, 0.0, 1.0])
    assert (run(iterated(halving_to(push), STARTS), 3).verdict == verdicts.SHORT).all()


def test_rest_jitter_is_not_an_orbit(iterated):
    """A contraction at its float32 floor: steps of rounding, back and forth."""
    generator = torch.Generator().manual_seed(0)

    def f(h, k):
        noise = torch.randn(h.shape, generator=generator, dtype=h.dtype) * 1.5e-7
        return h / 2 + STARTS[2].to(h.dtype) + noise

    result = run(iterated(f, STARTS, dtype=torch.float32), 64)
    assert (result.direction[-1] > result.thresholds["resolution"]).any()
    assert (result.verdict == verdicts.BELOW).all()


def test_abbie_d_settles_in_float32_and_is_below_resolution_in_bfloat16(tiny_model):
    tokens = [[5, 6, 7, 8, 9]]
    full = fixed_point(tiny_model(AbbieD()), tokens, 16)
    assert (full.verdict == verdicts.SETTLES).all()
    assert full.control is not None and (full.control.verdict == verdicts.SETTLES).all()
    half = fixed_point(tiny_model(AbbieD()).to(torch.bfloat16), tokens, 24)
    assert (half.direction[20:] < half.thresholds["resolution"]).all()
    assert (half.verdict == verdicts.BELOW).all()
    drifts = fixed_point(tiny_model(AbbieC()), tokens, 16, control=False)
    assert (drifts.verdict == verdicts.DRIFTS).all()


def test_thresholds_are_recorded_and_can_be_moved_without_a_run(iterated, rotation):
    model = iterated(rotation(100), STARTS)
    first = fixed_point(model, TOKENS, 16, control=False)
    again = fixed_point(model, TOKENS, 16, control=False, closure=0.01)
    moved = first.judge(closure=0.01)
    assert set(first.counts()) == {verdicts.ORBITS} and set(moved.counts()) == {verdicts.DRIFTS}
    np.testing.assert_array_equal(moved.verdict, again.verdict)
    assert moved.thresholds == again.thresholds == first.thresholds | {"closure": 0.01}
    with pytest.raises(InputError, match="closur"):
        first.judge(closur=1.0)
    with pytest.raises(InputError, match="decay=-1"):
        fixed_point(model, TOKENS, 4, decay=-1)


# -- control, padding, tables ------------------------------------------------------------------------


def test_control_is_the_same_analysis_of_fresh_weights(tiny_model):
    model = tiny_model(AbbieD())
    result = fixed_point(model, [[1, 2, 3]], 5, seed=7)
    alone = fixed_point(model.randomized(7), [[1, 2, 3]], 5, control=False)
    assert result.control is not None and result.control.control is None
    np.testing.assert_array_equal(result.control.raw, alone.raw)
    assert result.control.model.weight_hash != result.model.weight_hash
    assert np.abs(result.control.raw - result.raw).max() > 1e-3
    assert fixed_point(model, [[1, 2, 3]], 5, control=False).control is None


def test_shuffled_text_is_the_same_run_of_the_same_tokens_in_another_order(tiny_model):
    model, ids = tiny_model(AbbieD()), [[9, 8, 7, 6, 5], [3, 4, 5, 0, 0]]
    mask = [[1] * 5, [1, 1, 1, 0, 0]]
    given = dict(attention_mask=mask, control=False)
    ticks = []
    result = fixed_point(
        model, ids, 4, seed=1, shuffled_text=True, progress=lambda *t: ticks.append(t), **given
    )
    assert ticks == [(i, 4) for i in range(1, 5)]
    mixed = result.shuffled
    assert mixed is not None and mixed.shuffled is None
    assert [sorted(row) for row in mixed.tokens] == [sorted(row) for row in result.tokens]
    assert mixed.tokens[1][3:] == result.tokens[1][3:] and mixed.tokens != result.tokens
    order = [[int(token) for token in row] for row in mixed.tokens]
    alone = fixed_point(model, order, 4, **given)
    np.testing.assert_array_equal(mixed.raw, alone.raw)
    assert mixed.model.weight_hash == result.model.weight_hash
    again = fixed_point(model, ids, 4, seed=1, shuffled_text=True, **given).shuffled
    assert again is not None and again.tokens == mixed.tokens
    frame = result.to_frame()
    assert set(frame["weights"]) == {"trained", "trained, shuffled text"}
    names = {trace.name for trace in result.figure().data}
    assert "trained weights, shuffled text" in names


def test_numbers_by_token_are_levels_of_iteration_batch_and_position(tiny_model):
    mask = [[1, 1, 1], [1, 1, 0]]
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3], [4, 5, 0]], 5, attention_mask=mask)
    values = result.per_token()
    assert set(METRICS) < set(values)
    for name, value in values.items():
        assert value.ndim == 3 and value.shape[1:] == (2, 3), name
        assert np.isnan(value[:, 1, 2]).all(), name
    counted = {name: values[f"verdict {name}"] for name in verdicts.VERDICTS}
    assert {name: np.nansum(v) for name, v in counted.items() if np.nansum(v)} == result.counts()


def test_an_untrained_model_is_not_its_own_control(tiny_model):
    model = tiny_model(AbbieD(), seed=3)
    result = fixed_point(model, [[1, 2, 3]], 4, seed=3)
    assert result.control is not None
    assert result.control.model.weight_hash == model.randomized(4).info().weight_hash


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_nan_and_changes_no_token(tiny_model, side):
    model = tiny_model(AbbieD())
    row, mask = [3, 4, 5], [1, 1, 1]
    padded = [0, 0, *row] if side == "left" else [*row, 0, 0]
    keep = [0, 0, *mask] if side == "left" else [*mask, 0, 0]
    batch = fixed_point(model, [[9, 8, 7, 6, 5], padded], 6, attention_mask=[[1] * 5, keep])
    alone = fixed_point(model, [row], 6)
    real = np.array(keep, bool)
    for name in METRICS:
        assert np.isnan(batch.metric(name)[:, 1, ~real]).all(), name
        got, expected = batch.metric(name)[:, 1, real], alone.metric(name)[:, 0]
        np.testing.assert_allclose(got, expected, rtol=2e-3, atol=1e-6)
    assert (batch.verdict[1, ~real] == "").all()
    assert len(batch.to_frame()) == 2 * 7 * 8


def test_quantiles_are_over_defined_tokens_only(iterated):
    starts = torch.diag(torch.tensor([1.0, 2.0, 3.0, 4.0]))

    def f(h, k):
        h = 2 * h
        if k == 2:
            h[0, 3] = float("nan")
        return h

    result = fixed_point(iterated(f, starts), [0, 1, 2, 3], 4, control=False)
    low, median, high = result.quantiles("raw", (0.0, 0.5, 1.0))
    np.testing.assert_allclose(median, [2.5, 5, 8, 16])
    np.testing.assert_allclose(low, [1, 2, 4, 8])
    np.testing.assert_allclose(high, [4, 8, 12, 24])
    assert np.isnan(result.quantiles("angle")[:, 0]).all()


def test_frame_holds_every_number_once(tiny_model):
    result = fixed_point(tiny_model(AbbieD()), [[1, 2, 3]], 4)
    frame = result.to_frame()
    assert len(frame) == 2 * 3 * 5
    assert not frame.duplicated(["weights", "batch", "position", "iteration"]).any()
    cell = frame.query("weights == 'random' and position == 2 and iteration == 3").iloc[0]
    assert result.control is not None
    assert cell["readout"] == result.control.readout[3, 0, 2]
    assert cell["verdict"] == result.control.verdict[0, 2]
    last = frame.query("iteration == 4")
    assert last["raw"].isna().all() and last["norm"].notna().all()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"denominator": "both"}, "denominator"),
        ({"normaliser": "norm"}, "normaliser"),
        ({"limit_times": 3}, "limit_times"),
        ({"n_iters": 0}, "n_iters"),
        ({"n_iters": True}, "n_iters"),
        ({"windw": 3}, "windw"),
        ({"attention_mask": [[1, 1]]}, "attention_mask"),
        ({"attention_mask": [[0, 0, 0]]}, "attention_mask"),
    ],
)
def test_bad_arguments_are_named(iterated, options, named):
    with pytest.raises(InputError, match=named):
        fixed_point(iterated(doubling, STARTS), TOKENS, **{"n_iters": 4, **options})


def test_unknown_metric_names_its_neighbours(iterated):
    with pytest.raises(InputError, match="direction"):
        run(iterated(doubling, STARTS), 4).metric("directon")
