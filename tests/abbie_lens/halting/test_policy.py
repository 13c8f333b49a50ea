"""Halting rules on read-outs with known answers."""

import json
import math

import pytest
import torch

from abbie_lens import halting
from abbie_lens.errors import InputError
from abbie_lens.halting import RULES, Observation
from tests.abbie_lens.families import make

A, B = [3.0, 4.0], [6.0, 8.0]  # parallel, norms 5 and 10
UP, RIGHT = [0.0, 2.0], [2.0, 0.0]  # perpendicular


def z_of(*vectors):
    """One observation per vector, batch 1, one position."""
    return [Observation(k, torch.tensor([[v]], dtype=torch.float64)) for k, v in enumerate(vectors)]


def logits_of(*rows):
    return [
        Observation(k, torch.zeros(1, 1, 2), logits=torch.tensor([[row]]).log())
        for k, row in enumerate(rows)
    ]


def run(policy, observations):
    """Values and halted masks of the only token, in order."""
    decision = policy.init(observations[0])
    decisions = [decision]
    for seen in observations[1:]:
        decision = policy.check(decision, seen)
        decisions.append(decision)
    return [float(d.value) for d in decisions], [bool(d.halted) for d in decisions]


@pytest.mark.parametrize(
    ("name", "vectors", "expected"),
    [
        ("raw_distance", (A, B), 5.0),
        ("relative_distance", (A, B), 0.5),
        ("direction_distance", (A, B), 0.0),
        ("cosine", (A, B), 0.0),
        ("direction_distance", (UP, RIGHT), math.sqrt(2)),
        ("cosine", (UP, RIGHT), 1.0),
        ("cosine", (UP, [0.0, -7.0]), 2.0),
        ("fixed_k", (UP, RIGHT), 1.0),
    ],
)
def test_distances_have_their_values(name, vectors, expected):
    values, _ = run(halting.policy(name), z_of(*vectors))
    assert values[1] == pytest.approx(expected, abs=1e-12)


def test_only_counts_and_gates_are_defined_before_the_first_iteration():
    observation = Observation(
        0, torch.ones(1, 1, 2), torch.ones(1, 1, 2), torch.zeros(1, 1, 3), torch.zeros(1, 1)
    )
    undefined = {name for name, rule in RULES.items() if rule().init(observation).value.isnan()}
    assert undefined == RULES.keys() - {"fixed_k", "argmax_stable", "learned_gate", "act"}


def test_readout_distance_is_of_the_normed_state():
    seen = [
        Observation(0, torch.zeros(1, 1, 2), normed=torch.tensor([[[1.0, 0.0]]])),
        Observation(1, torch.full((1, 1, 2), 99.0), normed=torch.tensor([[[1.0, 0.5]]])),
    ]
    assert run(halting.policy("readout_distance"), seen)[0][1] == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["raw_distance", "relative_distance", "cosine"])
def test_states_too_large_to_square_still_have_distances(name):
    small, _ = run(halting.policy(name), z_of(UP, RIGHT))
    scale = 2.0**600
    large, _ = run(halting.policy(name), z_of([x * scale for x in UP], [x * scale for x in RIGHT]))
    unit = scale if name == "raw_distance" else 1.0
    assert large[1] / unit == pytest.approx(small[1], rel=1e-12)


def test_entropy_and_kl_of_known_distributions():
    p, q = [0.5, 0.25, 0.25], [0.25, 0.5, 0.25]
    entropy, _ = run(halting.policy("entropy_difference"), logits_of(p, [1.0, 0.0, 0.0]))
    assert entropy[1] == pytest.approx(1.5 * math.log(2), rel=1e-6)
    kl, _ = run(halting.policy("kl"), logits_of(p, q))
    assert kl[1] == pytest.approx(0.25 * math.log(2), rel=1e-6)


def test_kl_is_of_the_earlier_distribution_to_the_later():
    p, q = [0.9, 0.1], [0.5, 0.5]
    kl, _ = run(halting.policy("kl"), logits_of(p, q))
    assert kl[1] == pytest.approx(0.9 * math.log(1.8) + 0.1 * math.log(0.2), rel=1e-5)


def test_argmax_counts_unbroken_repetitions():
    first, second = [0.9, 0.1], [0.2, 0.8]
    policy = halting.policy("argmax_stable", threshold=2)
    values, halted = run(policy, logits_of(first, first, second, second, second, first))
    assert values == [0, 1, 0, 1, 2, 0]
    assert halted == [False, False, False, False, True, True]


def test_a_gate_stops_a_token_where_its_cdf_crosses_the_threshold():
    seen = [
        Observation(k, torch.zeros(1, 1, 2), exit_cdf=torch.tensor([[f]]))
        for k, f in enumerate([0.0, 0.3, 0.5, 0.9])
    ]
    values, halted = run(halting.policy("learned_gate"), seen)
    assert values == pytest.approx([0.0, 0.3, 0.5, 0.9])
    assert halted == [False, False, True, True]
    assert run(halting.policy("learned_gate", threshold=0.95), seen)[1] == [False] * 4


def test_rules_of_gates_are_for_loops_with_gates():
    with_gate, without = make("ouro"), make("abbie-d")
    assert halting.rules_for(with_gate) == list(RULES)
    assert set(RULES) - set(halting.rules_for(with_gate, without)) == {"learned_gate", "act"}
    assert halting.rules_for(object()) == halting.rules_for(without)


def test_once_halted_stays_halted():
    policy = halting.policy("raw_distance", threshold=0.5)
    values, halted = run(policy, z_of([0.0, 0.0], [0.1, 0.0], [9.0, 0.0]))
    assert values[2] > 0.5
    assert halted == [False, True, True]


def test_nan_never_halts():
    nan = [float("nan"), 0.0]
    for name in ("raw_distance", "relative_distance", "direction_distance", "cosine"):
        policy = halting.policy(name, threshold=1e9)
        assert run(policy, z_of(UP, nan, nan))[1] == [False] * 3, name
    broken = [
        Observation(k, torch.zeros(1, 1, 2), logits=torch.full((1, 1, 3), float("nan")))
        for k in range(4)
    ]
    for name in ("kl", "entropy_difference", "argmax_stable"):
        policy = halting.policy(name, threshold=0 if name == "argmax_stable" else 1e9)
        assert run(policy, broken)[1] == [False] * 4, name


def test_min_and_max_iters_bound_the_exit():
    still = z_of(UP, UP, UP, UP)
    assert run(halting.policy("raw_distance", min_iters=3), still)[1] == [False] * 3 + [True]
    moving = z_of(UP, RIGHT, UP, RIGHT)
    policy = halting.policy("raw_distance", threshold=0.1, max_iters=2)
    assert run(policy, moving)[1] == [False, False, True, True]


def test_a_fresh_run_of_the_same_policy_remembers_nothing():
    policy = halting.policy("argmax_stable", threshold=1)
    same = logits_of([0.9, 0.1], [0.9, 0.1])
    assert run(policy, same) == run(policy, same)


def test_rules_read_only_what_they_declare():
    z, normed, logits = torch.ones(1, 2, 4), torch.ones(1, 2, 4), torch.zeros(1, 2, 5)
    for name, rule in RULES.items():
        policy = rule()
        seen = {
            "normed": normed if "normed" in rule.needs else None,
            "logits": logits if "logits" in rule.needs else None,
            "exit_cdf": torch.zeros(1, 2) if "exit_cdf" in rule.needs else None,
        }
        decision = policy.check(policy.init(Observation(0, z, **seen)), Observation(1, z, **seen))
        assert decision.value.shape == (1, 2), name
        if rule.needs:
            with pytest.raises(InputError, match="None"):
                policy.check(policy.init(Observation(0, z)), Observation(1, z))


def test_leaving_out_an_iteration_is_an_error():
    policy = halting.policy("raw_distance")
    with pytest.raises(InputError, match="k=2: expected 1"):
        policy.check(policy.init(z_of(UP)[0]), Observation(2, torch.zeros(1, 1, 2)))


def test_description_is_json_and_rebuilds_the_policy():
    for name, rule in RULES.items():
        policy = rule(threshold=0.25, min_iters=2, max_iters=7)
        about = json.loads(json.dumps(policy.describe()))
        settings = {key: about[key] for key in ("threshold", "min_iters", "max_iters")}
        assert halting.policy(about["name"], **settings) == policy, name
        assert about["formula"] and about["unit"] and about["title"]


def test_bad_settings_are_named():
    with pytest.raises(InputError, match=r"rule='kll'.*Nearest: kl"):
        halting.policy("kll")
    with pytest.raises(InputError, match="threshold"):
        halting.policy("kl", threshold=float("nan"))
    with pytest.raises(InputError, match="min_iters"):
        halting.policy("kl", min_iters=-1)
    with pytest.raises(InputError, match="max_iters"):
        halting.policy("kl", min_iters=3, max_iters=2)


def test_second_order_is_how_much_the_last_step_differs_from_the_one_before():
    """Along a line at constant speed it is 0, turning by a right angle √2 / 2, turning back 1."""
    ways = {
        "straight": ([0.0, 0.0], [1.0, 0.0], [2.0, 0.0], 0.0),
        "right angle": ([0.0, 0.0], [1.0, 0.0], [1.0, 1.0], math.sqrt(2) / 2),
        "back": ([0.0, 0.0], [1.0, 0.0], [0.0, 0.0], 1.0),
    }
    for *vectors, expected in ways.values():
        values, _ = run(halting.policy("second_order"), z_of(*vectors))
        assert math.isnan(values[1]) and values[2] == pytest.approx(expected)


def test_min_p_kl_does_not_see_improbable_tokens():
    """What changes below m max p changes nothing; at m = 0 it is KL itself."""
    seen = logits_of([0.9, 0.06, 0.04], [0.9, 0.02, 0.08])
    assert run(halting.policy("min_p_kl"), seen)[0][1] == pytest.approx(0, abs=1e-7)
    whole = run(halting.policy("min_p_kl", min_p=0.0), seen)[0][1]
    assert whole == pytest.approx(run(halting.policy("kl"), seen)[0][1], rel=1e-5) and whole > 0.01
    q = [0.9, 1 / 3, 1 / 3]  # the improbable two at 1/V, of weight 1 with the other
    changed = run(halting.policy("min_p_kl"), logits_of([0.9, 0.06, 0.04], [0.2, 0.6, 0.2]))[0][1]
    p = [x / sum(q) for x in q]
    expected = sum(a * math.log(a / b) for a, b in zip(p, [0.2, 0.6, 0.2], strict=True))
    assert changed == pytest.approx(expected, rel=1e-5)
    with pytest.raises(InputError, match="min_p=2"):
        halting.policy("min_p_kl", min_p=2)


def test_act_sums_what_the_gate_says_of_tokens_still_in():
    hazards = [0.3, 0.5, 0.4]
    cdf = [0.0, 0.3, 0.65, 0.79]
    seen = [
        Observation(k, torch.zeros(1, 1, 2), exit_cdf=torch.tensor([[f]], dtype=torch.float64))
        for k, f in enumerate(cdf)
    ]
    values, halted = run(halting.policy("act", threshold=0.75), seen)
    assert values == pytest.approx([0, *(sum(hazards[: k + 1]) for k in range(3))])
    assert halted == [False, False, True, True]


def test_check_every_compares_with_the_last_look():
    """z moves by 1 each iteration, so by 2 from look to look; the rest is not measured."""
    steps = z_of(*([float(k), 0.0] for k in range(5)))
    values, halted = run(halting.policy("raw_distance", threshold=2.5, check_every=2), steps)
    assert [v for v in values if not math.isnan(v)] == [2.0, 2.0]
    assert halted == [False, False, True, True, True]
    stable = halting.policy("argmax_stable", threshold=2, check_every=2)
    assert run(stable, logits_of(*[[0.9, 0.1]] * 5))[1] == [False] * 4 + [True]


def test_any_and_all_of_several_rules():
    steps = z_of([0.0, 1.0], [4.0, 1.0], [4.0, 1.5], [4.0, 1.5])
    raw = halting.policy("raw_distance", threshold=1.0)
    late = halting.policy("fixed_k", threshold=3)
    either, both = halting.AnyOf(policies=(raw, late)), halting.AllOf(policies=(raw, late))
    assert run(either, steps) == ([0, 0, 1, 2], [False, False, True, True])
    assert run(both, steps) == ([0, 0, 1, 2], [False, False, False, True])
    told = json.loads(json.dumps(both.describe()))
    assert [p["name"] for p in told["policies"]] == ["raw_distance", "fixed_k"]
    assert halting.AnyOf(policies=(raw, halting.policy("kl"))).needs == {"logits"}
    with pytest.raises(InputError, match="policies="):
        halting.AnyOf()


def test_a_decision_can_be_taken_apart_by_tokens():
    """Rows one by one are what all of them are together, whatever a rule remembers."""
    z = torch.randn(5, 4, 3, generator=torch.Generator().manual_seed(0))
    logits = torch.randn(5, 4, 6, generator=torch.Generator().manual_seed(1))
    seen = [Observation(k, z[k], z[k], logits[k], torch.full((4,), k / 5)) for k in range(5)]
    index = torch.tensor([3, 1])
    for name in RULES:
        policy = halting.policy(name)
        whole, some = policy.init(seen[0]), policy.init(seen[0]).take(index)
        for observation in seen[1:]:
            whole = policy.check(whole, observation)
            some = policy.check(some, observation.take(index))
            torch.testing.assert_close(some.value, whole.value[index], equal_nan=True)
