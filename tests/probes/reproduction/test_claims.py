"""A claim is judged by the stored numbers alone, both ways, and is not judged without them."""

import math

import numpy as np
import pytest

from probes.reproduction.claims import (
    FAILS,
    HOLDS,
    UNKNOWN,
    abbie,
    hops,
    judge,
    pondering,
    resolution,
    stacks,
    wider,
)
from probes.reproduction.claims.stacks import course
from probes.reproduction.comparisons import At, difference, nll_at_flops

NAN = float("nan")


def nll(levels, trained=2, n_iters=(1, 2, 4, 8), noise=0.01, seed=0, blocks=40):
    """NLL of 40 blocks of 100 tokens in 4 documents, around `levels` by depth; all share the text's own ups and downs."""
    text = np.random.default_rng(99).normal(0, 1, blocks)
    own = np.random.default_rng(seed).normal(0, noise, (len(levels), blocks))
    by_block = 100 * (np.array(levels)[:, None] + text + own)
    mean = by_block.sum(1) / (100 * blocks)
    return {
        "n_iters": list(n_iters[: len(levels)]), "trained_n_iters": trained,
        "nll": mean, "low": mean - 0.3, "high": mean + 0.3, "block_nll": by_block,
        "block_tokens": [100] * blocks, "block_document": sorted(i % 4 for i in range(blocks)),
        "n_tokens": 100 * blocks, "n_params": 1,
    }  # fmt: skip


def approach(ratios):
    return {"last_over_first": {name: [r, r * 0.9, r * 1.1] for name, r in ratios.items()}}


def fixed_point(trained):
    names = ("raw", "relative", "direction", "readout")
    trained = approach(dict(zip(names, trained, strict=True)))
    return {"trained": trained, "random": approach(dict.fromkeys(names, 1.0))}


def verdicts(claims):
    return {c.claim: c.verdict for c in claims}


def only(claims, words):
    found = [c for c in claims if words in c.claim]
    assert len(found) == 1, [c.claim for c in found]
    return found[0]


def test_without_metrics_nothing_is_judged(made):
    for paper in (abbie, stacks, pondering, resolution, hops, wider):
        assert {c.verdict for c in paper.claims(made.metrics)} == {UNKNOWN}


@pytest.mark.parametrize(("gap", "verdict"), [(-0.05, HOLDS), (0.05, FAILS), (-0.002, FAILS)])
def test_a_lower_loss_is_judged_on_the_paired_difference(made, gap, verdict):
    made("std", "nll", nll([4.0], trained=1, seed=1))
    made("abbie-d", "nll", nll([4.2, 4.0 + gap], seed=2))
    claim = only(abbie.claims(made.metrics), "lower perplexity than a plain")
    assert claim.verdict == verdict
    # The text's ups and downs are shared: unpaired, the interval would be a hundred times wider.
    assert claim.estimate.high - claim.estimate.low < 0.02
    assert claim.estimate.low < gap < claim.estimate.high


def test_other_text_or_a_refused_depth_is_not_compared(made):
    made("std", "nll", nll([4.0], trained=1))
    made("abbie-d", "nll", nll([4.0, NAN]))
    made("abbie-c", "nll", nll([4.0, 3.0], blocks=36))
    assert not difference(made.metrics, At("abbie-d"), At("std")).known
    assert not difference(made.metrics, At("abbie-c"), At("std")).known
    assert not difference(made.metrics, At("std", 8), At("std")).known


@pytest.mark.parametrize(
    ("levels", "upward", "c_verdict"),
    [([4.3, 4.0, 3.9, 4.1], (HOLDS, FAILS), FAILS), ([4.3, 4.0, 4.2, 3.8], (FAILS, HOLDS), HOLDS)],
)
def test_upward_generalisation(made, levels, upward, c_verdict):
    for family in ("abbie-d", "abbie-c"):
        made(family, "nll", nll(levels))
    claims = abbie.claims(made.metrics)
    assert tuple(only(claims, f"better still at r = {r}").verdict for r in (4, 8)) == upward
    assert only(claims, "does not generalise upward").verdict == c_verdict


@pytest.mark.parametrize(
    ("levels", "verdict"), [([5.0, 4.0, 4.9], HOLDS), ([5.0, 4.0, 4.5], FAILS)]
)
def test_a_collapse_is_twice_the_perplexity_on_both_sides(made, levels, verdict):
    made("0pt", "nll", nll(levels))
    assert only(abbie.claims(made.metrics), "collapses").verdict == verdict


def test_each_distance_is_judged_apart(made):
    for family in ("abbie-d", "abbie-c"):
        made(family, "fixed_point", fixed_point((1e4, 0.5, 1e-5, 0.095)))
    found = verdicts(abbie.claims(made.metrics))
    d = [
        found[f"AbbIE-D converges: {n} distance"]
        for n in ("raw", "relative", "direction", "read-out")
    ]
    # The last: 0.095 is below a tenth, its interval is not.
    assert d == [FAILS, FAILS, HOLDS, FAILS]
    c = [
        found[f"AbbIE-C diverges: {n} distance"]
        for n in ("raw", "relative", "direction", "read-out")
    ]
    assert c == [HOLDS, FAILS, FAILS, FAILS]


@pytest.mark.parametrize(("value", "verdict"), [(1e-6, HOLDS), (0.1, FAILS), (NAN, UNKNOWN)])
def test_a_plain_transformer_has_equal_logits(made, value, verdict):
    made("abbie-d", "compute", {"plain_difference": value})
    assert only(abbie.claims(made.metrics), "abbie-d at r = 1").verdict == verdict


def training(loss, gradient=None, diverged_at=None, k=12):
    gradient = [1.0] * len(loss) if gradient is None else gradient
    return {"n_iters": k, "loss": loss, "gradient": gradient, "diverged_at": diverged_at}


FALLING = list(np.linspace(8, 5, 100))


@pytest.mark.parametrize(
    ("values", "unstable"),
    [
        (training(FALLING), ""),
        (training(FALLING[:3], diverged_at=4), "step 4"),
        (training([*FALLING[:50], *[7.5] * 50]), "above its lowest"),
        (training(FALLING, [1.0] * 90 + [20.0] + [1.0] * 9), "20 times"),
        (training(FALLING, [20.0] + [1.0] * 99), ""),  # a spike while warming up is none
    ],
)
def test_what_counts_as_unstable(values, unstable):
    found = course(values).unstable
    assert (unstable in found) if unstable else found == ""


@pytest.mark.parametrize(
    ("lt", "flt", "verdict"),
    [
        (training([1.0], diverged_at=2), training(FALLING), HOLDS),
        (training([1.0], diverged_at=2), training([1.0], diverged_at=2), FAILS),
        (training(FALLING), training(FALLING), FAILS),
    ],
)
def test_lt_unstable_where_flt_is_not(made, lt, flt, verdict):
    made("lt", "stability-3", training(FALLING, k=3))
    made("flt", "stability-3", training(FALLING, k=3))
    made("lt", "stability-12", lt)
    made("flt", "stability-12", flt)
    claim = only(stacks.claims(made.metrics), "unstable where FLT is not")
    assert claim.verdict == verdict and "K=3: lt stable, flt stable" in claim.measured


def rules(updates, over_none, over_random, at_once=0.2, spearman=(0.2, 0.1, 0.3)):
    learned = {
        "rule": "learned", "compared_with": "learned", "mean_updates": updates, "over_none": over_none,
        "over_compared": [NAN] * 3,
    }  # fmt: skip
    controls = [
        {**learned, "rule": rule, "over_compared": over} for rule, over in
        (("random", over_random), ("fixed", [0.0, -0.01, 0.01]))
    ]  # fmt: skip
    return {
        "max_updates": 2, "rules": [learned, *controls], "spearman": spearman, "gate_spearman": spearman,
        "halted_minus_active": [*[-s for s in spearman][:1], -spearman[2], -spearman[1]],
        "depth_over_none": [[at_once, at_once - 0.01, at_once + 0.01]],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("values", "saves"),
    [
        (rules(1.7, [0.001, 0.0, 0.002], [-0.02, -0.03, -0.01]), HOLDS),
        (rules(1.95, [0.001, 0.0, 0.002], [-0.02, -0.03, -0.01]), FAILS),  # under 5 % of 3 passes
        (rules(1.7, [0.02, 0.01, 0.03], [-0.02, -0.03, -0.01]), FAILS),  # not at equal perplexity
        (
            rules(0.0, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], at_once=0.0),
            FAILS,
        ),  # updates do nothing at all
    ],
)
def test_saving_counts_only_at_equal_loss_and_where_updates_matter(made, values, saves):
    made("adaponder", "pondering", values)
    assert only(pondering.claims(made.metrics), "are saved").verdict == saves


def test_learned_halting_against_random_and_hard_tokens(made):
    made("adaponder", "pondering", rules(1.7, [0.0, 0.0, 0.0], [-0.02, -0.03, -0.01]))
    good = verdicts(pondering.claims(made.metrics))
    assert good["the learned mask beats random pruning at equal mean updates"] == HOLDS
    assert good["the learned mask beats fixed pruning at equal mean updates"] == FAILS
    assert good["tokens that halt early have the lower NLL"] == HOLDS
    made(
        "adaponder", "pondering",
        rules(2.0, [0.0] * 3, [0.0] * 3, spearman=(NAN, NAN, NAN)),
    )  # fmt: skip
    none = verdicts(pondering.claims(made.metrics))
    assert none["the learned mask beats random pruning at equal mean updates"] == UNKNOWN
    assert none["tokens that halt early have the lower NLL"] == UNKNOWN


@pytest.mark.parametrize(
    ("change", "verdict"),
    [((5.0, 3.0, 7.0), HOLDS), ((1.0, -1.0, 3.0), FAILS), ((-5.0, -6.0, -4.0), FAILS)],
)
def test_early_loops_reach_further(made, change, verdict):
    made("spiral", "attention", {"first_minus_last": {"span": change, "entropy": (NAN, NAN, NAN)}})
    claims = resolution.claims(made.metrics)
    assert only(claims, "reach further").verdict == verdict
    assert only(claims, "more evenly").verdict == UNKNOWN


@pytest.mark.parametrize(("full", "verdict"), [(200.0, HOLDS), (100.0, FAILS)])
def test_flops_saved(made, full, verdict):
    made("spiral", "nll", nll([4.0, 3.9], trained=2))
    made("spiral", "compute", {"n_iters": [1, 2], "flops": [60.0, 100.0], "full_resolution_flops": [90.0, full]})  # fmt: skip
    claim = only(resolution.claims(made.metrics), "fewer FLOPs")
    assert claim.verdict == verdict
    assert claim.estimate.value == pytest.approx(1 - 100 / full)


def test_hops_are_judged_on_the_hardest_questions_trained_on_and_beyond(made):
    values = {
        "n_iters": [1, 4], "difficulty": [1, 2, 6], "task": {"train_difficulty": [1, 2]},
        "accuracy": [[0.9, 0.5, 0.2], [0.9, 0.9, 0.6]], "low": [[0.85, 0.4, 0.1], [0.85, 0.8, 0.5]],
        "high": [[0.95, 0.6, 0.3], [0.95, 0.95, 0.7]],
    }  # fmt: skip
    for family, change in {
        "abbie-d": {},
        "0pt": {"low": [[0.85, 0.4, 0.1], [0.85, 0.8, 0.25]]},
        "flt": {"accuracy": [[NAN] * 3] * 2},
    }.items():
        made(family, "khop", {"evaluation": {**values, **change}, "spearman": None})
    found = [c.verdict for c in hops.claims(made.metrics)]
    assert found == [HOLDS, HOLDS, HOLDS, FAILS, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN, UNKNOWN]


@pytest.mark.parametrize(
    ("spearman", "verdict"),
    [
        ((0.3, 0.1, 0.5), HOLDS),
        ((0.1, -0.1, 0.3), FAILS),
        ((-0.6, -0.7, -0.5), FAILS),
        ((NAN, NAN, NAN), FAILS),
        (None, UNKNOWN),
    ],
)
def test_the_gate_is_judged_by_where_it_spends_iterations(made, spearman, verdict):
    values = {
        "n_iters": [1], "difficulty": [1], "accuracy": [[1]], "low": [[1]], "high": [[1]],
        "task": {"train_difficulty": [1, 1]},
    }  # fmt: skip
    made("adaponder", "khop", {"evaluation": values, "spearman": spearman})
    assert only(hops.claims(made.metrics), "the gate").verdict == verdict


def test_nll_at_equal_flops_is_interpolated_between_depths_and_nowhere_else(made):
    made("std", "nll", nll([4.0, 3.0], trained=1, noise=0.0))
    made("std", "compute", {"n_iters": [1, 2], "flops": [100.0, 400.0]})
    level = made.metrics.values("std", "nll")["nll"]
    assert nll_at_flops(made.metrics, "std", 200.0) == pytest.approx(np.mean(level))
    assert nll_at_flops(made.metrics, "std", 100.0) == pytest.approx(level[0])
    assert math.isnan(nll_at_flops(made.metrics, "std", 99.0))
    assert math.isnan(nll_at_flops(made.metrics, "std", 401.0))


@pytest.mark.parametrize(
    ("mean_steps", "over_fixed", "verdict"),
    [
        (2.4, (-0.02, -0.03, -0.01), HOLDS),
        (2.4, (-0.02, -0.05, 0.01), FAILS),
        (4, (0.0, 0.0, 0.0), FAILS),
        (1, (0.0, 0.0, 0.0), FAILS),
    ],
)
def test_a_gate_is_judged_against_one_depth_for_all(made, mean_steps, over_fixed, verdict):
    at = {"threshold": 0.5, "mean_steps": mean_steps, "over_fixed": over_fixed}
    made("ouro", "gates", {"n_iters": 4, "at": [at], "spearman": (0.1, 0.0, 0.2)})
    claim, *others = [c for c in wider.claims(made.metrics) if "learned gate" in c.claim]
    assert claim.paper == "Ouro" and claim.verdict == verdict
    assert {c.verdict for c in others} == {UNKNOWN}


@pytest.mark.parametrize(("rise", "verdict"), [(0.3, HOLDS), (0.0, FAILS), (-0.3, FAILS)])
def test_a_loss_that_rises_beyond_the_trained_depth(made, rise, verdict):
    made("ouro", "nll", nll([4.5, 4.0, 4.2, 4.0 + rise], trained=2) | {"n_iters": [1, 2, 4, 8]})
    assert only(wider.claims(made.metrics), "rises again").verdict == verdict


def test_papers_that_a_comparison_does_not_train_are_left_out(made):
    papers = {claim.paper for claim in judge(made.metrics)}
    assert "AbbIE" in papers and "Fully Looped" in papers
    assert not papers & {"Ouro", "SpiralFormer"}
