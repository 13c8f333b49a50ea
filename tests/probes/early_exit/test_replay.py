"""A replay equals live runs: of the rules, and of models stopped at the exit step."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens import loops
from abbie_lens.errors import InputError
from abbie_lens.halting import OF_GATES, RULES, Observation, policy
from abbie_lens.loops import AbbieC
from tests.abbie_lens.families import make, walk

R = 5


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model(initializer_range=0.2)


@pytest.fixture(scope="module")
def tokens():
    return torch.randint(100, (2, 9), generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def replay(model, tokens):
    return probes.halting(model, tokens, R)


def live_exits(model, tokens, rule, threshold):
    """Exit steps when the same rule watches the run as it happens."""
    with torch.no_grad():
        state, decision = model.begin(tokens, n_iters=R), None
        steps = torch.full(tokens.shape, R)
        for k in range(R + 1):
            seen = Observation(k, state.z, model.ln_final(state.z), model.readout(state))
            watcher = policy(rule, threshold=threshold)
            before = (
                torch.zeros_like(tokens, dtype=torch.bool) if decision is None else decision.halted
            )
            decision = watcher.init(seen) if decision is None else watcher.check(decision, seen)
            steps[decision.halted & ~before] = k
            if k < R:
                state = model.step(state)
    return steps.numpy()


@pytest.mark.parametrize("rule", [name for name in RULES if name not in OF_GATES])
def test_replay_exits_where_a_live_run_does(model, tokens, replay, rule):
    _, values = replay.rule(rule)
    # Raw distances of AbbIE-D grow: what does not exit at once never does.
    threshold = float(np.nanmedian(values[1:2] if rule == "raw_distance" else values[1:]))
    outcome = replay.at(rule, threshold)
    assert (outcome.exit_step == live_exits(model, tokens, rule, threshold)).all()
    if rule != "fixed_k":
        assert len(np.unique(outcome.exit_step)) > 1, "the threshold must divide the tokens"


GATED = {
    "ouro": loops.Ouro(),
    "pondernet": loops.PonderNet(),
    "ut-act": loops.UTACT(gate_init=0.3),
    "adaponder": loops.AdaPonder(max_iters=R, threshold=0.4, gate_init=0.5),
}


@pytest.mark.parametrize("name", GATED)
@torch.no_grad()
def test_a_gates_exits_are_those_of_its_own_distribution(tokens, name):
    model = make(GATED[name])
    replay = probes.halting(model, tokens, R)
    rule, values = replay.rule("learned_gate")
    assert rule["threshold"] == 0.5 and replay.names == tuple(RULES)
    stopped = np.stack(
        [model.cfg.loop.exit_cdf(model, state).numpy() for state in walk(model, tokens, R)]
    )
    assert (np.diff(stopped, axis=0) >= 0).all() and stopped.min() >= 0 and stopped.max() <= 1
    assert values == pytest.approx(stopped, abs=1e-6)
    crossing = [stopped >= q for q in (0.5, 0.9)]
    for q, there in zip((0.5, 0.9), crossing, strict=True):
        exits = np.where(there.any(0), there.argmax(0), R)
        assert (replay.at("learned_gate", q).exit_step == exits).all()
    assert len(np.unique(replay.at("learned_gate").exit_step)) > 1, "some tokens must differ"


def test_a_loop_without_a_gate_is_not_asked_for_one(model, tokens, replay):
    assert "learned_gate" not in replay.names
    asked = probes.halting(model, tokens, 2, rules=["learned_gate"])
    outcome = asked.at("learned_gate")
    assert np.isnan(asked.values).all()
    assert (outcome.exit_step == 2).all() and not outcome.fired.any()
    assert outcome.figure() and asked.sweep("learned_gate").figure()


def test_exit_predicts_what_a_model_of_that_depth_predicts(model, tokens, replay):
    outcome = replay.at("kl", float(np.nanmedian(replay.rule("kl")[1][1:])))
    for k in np.unique(outcome.exit_step):
        with torch.no_grad():
            logits, nll = model(tokens, n_iters=int(k), return_type="both", loss_per_token=True)
            full = model(tokens, n_iters=R)
        here = outcome.exit_step == k
        assert outcome.nll_exit[:, :-1][here[:, :-1]] == pytest.approx(
            nll.numpy()[here[:, :-1]], abs=1e-5
        )
        same = (logits.argmax(-1) == full.argmax(-1)).numpy()
        assert (outcome.agrees[k][here] == same[here]).all()
    assert np.isnan(outcome.nll_exit[:, -1]).all()
    assert outcome.nll_full[:, :-1] == pytest.approx(
        model(tokens, n_iters=R, return_type="loss", loss_per_token=True).detach().numpy(), abs=1e-5
    )


def test_thresholds_never_touch_the_model(tiny_model, tokens, monkeypatch):
    model = tiny_model()
    replay = probes.halting(model, tokens, 3)

    def refuse(*_args, **_kwargs):
        raise AssertionError("the model was run")

    for name in ("begin", "step", "readout", "forward"):
        monkeypatch.setattr(model, name, refuse)
    replay.at("kl", 0.1).figure()
    replay.sweep("cosine").to_frame()


def test_fixed_k_is_its_own_baseline(replay):
    for k in (0, 2, R):
        outcome = replay.at("fixed_k", k)
        assert outcome.mean_steps == k and (outcome.exit_step == k).all()
        assert outcome.histogram.tolist() == [0] * k + [18] + [0] * (R - k)
        for name in ("fixed", "random"):
            assert getattr(outcome, f"{name}_nll") == pytest.approx(outcome.mean_nll_exit)
            assert getattr(outcome, f"{name}_agreement") == pytest.approx(outcome.agreement)
    assert replay.at("fixed_k", R).agreement == 1


def test_a_rule_that_never_fires_runs_to_the_end_and_says_so(replay):
    outcome = replay.at("raw_distance", 0.0)
    assert (outcome.exit_step == R).all() and not outcome.fired.any()
    assert outcome.n_never_fired == 18 and outcome.agreement == 1
    assert replay.at("raw_distance", np.inf).mean_steps == 1
    assert replay.at("raw_distance", np.inf, min_iters=3).mean_steps == 3


def test_sweep_goes_from_full_depth_to_the_first_iteration(replay):
    for rule in replay.names:
        sweep = replay.sweep(rule)
        assert (np.diff(sweep.mean_steps) <= 0).all(), rule
        assert sweep.mean_steps[0] == R and sweep.agreement[0] == 1
        first = 2 if rule == "second_order" else 1  # it compares two steps
        assert sweep.mean_steps[-1] <= first
        at = replay.at(rule, sweep.thresholds[3])
        assert sweep.nll[3] == at.mean_nll_exit and sweep.random_nll[3] == at.random_nll
    assert sweep.fixed_agreement[-1] == 1
    assert sweep.fixed_nll == pytest.approx(np.nanmean(replay.nll, axis=(1, 2)))
    assert replay.sweep("kl", [0.1, 0.01]).thresholds.tolist() == [0.1, 0.01]


def test_sweep_takes_in_the_threshold_that_is_looked_at(replay):
    """Else the ring in the figure would stand at another threshold than the slider."""
    plain, sweep = replay.sweep("kl"), replay.sweep("kl", also=[0.0123])
    assert set(sweep.thresholds) == {*plain.thresholds, 0.0123}
    assert (np.diff(sweep.mean_steps) <= 0).all()
    ring = sweep.figure(threshold=0.0123).data[-1]
    assert ring.name == "threshold 0.0123" and ring.x[0] == replay.at("kl", 0.0123).mean_steps


def test_padding_changes_nothing_and_is_left_out(model, tokens, replay):
    row = tokens[0, :6]
    padded = torch.cat([row, torch.zeros(3, dtype=torch.long)])
    mask = torch.tensor([[1] * 6 + [0] * 3, [1] * 9])
    both = probes.halting(model, torch.stack([padded, tokens[1]]), R, attention_mask=mask)
    alone = probes.halting(model, row, R)
    assert both.values[:, :, 0, :6] == pytest.approx(
        alone.values[:, :, 0], rel=1e-4, abs=1e-5, nan_ok=True
    )
    assert np.isnan(both.nll[:, 0, 5:]).all() and (both.prediction[:, 0, 6:] == -1).all()
    outcome = both.at("kl", 0.05)
    assert outcome.histogram.sum() == 15 and (outcome.exit_step[0, 6:] == -1).all()
    assert len(outcome.to_frame()) == 15 and len(both.to_frame()) == 15 * (R + 1)
    assert outcome.mean_nll_exit == pytest.approx(np.nanmean(outcome.nll_exit))
    assert outcome.mean_steps_scored == outcome.exit_step[~np.isnan(outcome.nll_exit)].mean()
    assert outcome.n_diverged == 0 and outcome.mean_steps == outcome.to_frame()["exit_step"].mean()


def test_divergence_is_reported_and_never_halts(tiny_model, tokens):
    model = tiny_model(AbbieC())
    with model.hooks([("loop.hook_state@2", lambda h, hook: h * float("nan"))]):
        replay = probes.halting(model, tokens, R)
    assert (replay.diverged_at == 2).all()
    for rule in set(replay.names) - {"fixed_k"}:
        _, values = replay.rule(rule)
        assert np.isnan(values[2:]).all(), rule
    outcome = replay.at("kl", 1e-12)
    assert (outcome.exit_step == R).all() and outcome.n_diverged == 18
    assert np.isnan(outcome.mean_nll_exit) and np.isnan(outcome.agreement)
    assert outcome.figure() and outcome.to_frame()["nll_exit"].isna().all()
    assert np.isfinite(replay.nll[:2, :, :-1]).all(), "what came before is kept"


def test_one_token_has_no_nll(model):
    outcome = probes.halting(model, torch.tensor([7]), 2).at("kl")
    assert np.isnan(outcome.mean_nll_exit) and np.isnan(outcome.random_nll)
    assert np.isfinite(outcome.agreement)


def test_zero_iterations(model, tokens):
    replay = probes.halting(model, tokens, 0)
    outcome = replay.at("kl")
    assert outcome.mean_steps == 0 and outcome.agreement == 1
    assert replay.figure() and replay.sweep("kl").figure()


def test_bad_input_is_named(model, tokens, replay):
    with pytest.raises(InputError, match=r"rule='cosin'.*Nearest: cosine"):
        replay.at("cosin")
    with pytest.raises(InputError, match="threshold"):
        replay.at("kl", float("nan"))
    with pytest.raises(InputError, match="min_iters"):
        replay.at("kl", 0.1, min_iters=R + 1)
    with pytest.raises(InputError, match="twice"):
        probes.halting(model, tokens, 2, rules=["kl", policy("kl", threshold=1)])
    with pytest.raises(InputError, match="rules"):
        probes.halting(model, tokens, 2, rules="kl")
    with pytest.raises(InputError, match="view"):
        replay.at("kl").figure(view="pie")
    only = probes.halting(model, tokens, 2, rules=["cosine"])
    assert only.names == ("cosine",)


def test_figures_show_the_numbers_of_the_outcome(replay):
    outcome = replay.at("kl", 0.05)
    fig = outcome.figure(batch=1)
    marked = [
        (x, y) for t in fig.data if t.type == "scatter" for x, y in zip(t.x, t.y, strict=True)
    ]
    assert sorted(marked) == list(enumerate(outcome.exit_step[1]))
    bars = outcome.figure(view="histogram").data[0]
    assert list(bars.y) == outcome.histogram.tolist()
    sweep = replay.sweep("kl")
    curves = {t.name: t for t in sweep.figure(metric="nll", threshold=0.05).data}
    assert list(curves["KL divergence"].y) == sweep.nll.tolist()
    assert list(curves["fixed depth"].y) == sweep.fixed_nll.tolist()
