"""A study is what one would compute from all tokens at once; its references and intervals are what they claim."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

import probes
from abbie_lens.errors import ConfigError, ExistsError, InputError
from abbie_lens.flops import count_flops
from probes.early_exit import thresholds
from probes.early_exit.risk import control_risk
from probes.early_exit.shards import Tokens
from probes.early_exit.study import study, tokens_of
from probes.early_exit.study_config import StudyConfig
from probes.early_exit.study_result import HaltingStudy
from probes.early_exit.sums import calibration
from tests.corpus import text

R = 4
RULES = ("kl", "direction_distance")


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    data = folder / "texts.txt"
    data.write_text("\f".join(text(s, n) for s, n in enumerate((90, 45, 63, 54, 36, 72))))
    config = StudyConfig(
        data=str(data), out=str(folder / "out"), n_iters=R, window=32, stretch_tokens=150, points=3
    )
    return config, study(model, config, rules=RULES), Tokens.joined(list(tokens_of(config.folder)))


def test_a_shard_holds_what_the_replay_gives(made, model):
    config, result, tokens = made
    document = Path(config.data).read_text().split("\f")[0]
    ids = model.tokenizer.encode(document)[:31]
    one = probes.halting(model, [0, *ids], R, rules=RULES)
    n = len(ids) - 1
    first = tokens.take(np.flatnonzero(tokens.document == 0)[:n])
    assert first.values == pytest.approx(one.values[:, :, 0, 1:-1], rel=1e-3, abs=1e-5, nan_ok=True)
    assert first.nll == pytest.approx(one.nll[:, 0, 1:-1], rel=1e-4)
    assert (first.agrees == one.agrees[:, 0, 1:-1]).mean() > 0.99
    assert result.n_tokens == len(tokens) and result.n_documents == 6


def test_metrics_are_those_of_all_tokens_at_once(made, model):
    _, result, tokens = made
    flops = count_flops(model, R, 32)
    assert result.fixed_nll[:, 0] == pytest.approx(tokens.nll.mean(1))
    for i, rule in enumerate(result.rules[:-1]):
        for j, threshold in enumerate(result.thresholds[i]):
            steps = thresholds.exit_steps(rule, tokens.values[i], threshold)
            at = (steps, np.arange(len(tokens)))
            value = lambda name, i=i, j=j: result.metrics[name][i, j, 0]  # noqa: E731
            assert value("depth") == pytest.approx(steps.mean())
            assert value("nll") == pytest.approx(tokens.nll[at].mean())
            assert value("agreement") == pytest.approx(tokens.agrees[at].mean())
            share = np.bincount(steps, minlength=R + 1) / len(steps)
            assert value("random_nll") == pytest.approx(share @ tokens.nll.mean(1))
            looks = np.minimum(steps + 1, R).mean() if rule["name"] == "kl" else 0
            cost = share @ [flops.at(k) for k in range(R + 1)]
            cost += looks * (flops.tail + flops.unembed)
            assert value("flops") == pytest.approx(cost)
            if steps.std() > 0:
                exact = spearmanr(steps, tokens.nll[-1]).statistic
                assert value("spearman_nll") == pytest.approx(exact, abs=2e-3)
            best, ever = tokens.right.argmax(0), tokens.right.any(0)
            if ever.any():
                assert value("oracle_error") == pytest.approx((steps - best)[ever].mean())
    assert result.histogram.sum(-1) == pytest.approx(1)
    by_class = result.by_class
    added = np.nansum(by_class["depth"][..., 0] * result.class_sizes, -1) / result.n_tokens
    assert added == pytest.approx(result.metrics["depth"][..., 0])


def test_the_oracle_bounds_every_rule_and_depth(made):
    _, result, _ = made
    depth, nll = (result.metrics[name][-1, :, 0] for name in ("depth", "nll"))
    prices = result.thresholds[-1]
    best = nll + prices * depth
    fixed = result.fixed_nll[:, 0] + prices[:, None] * np.arange(R + 1)
    assert (best[:, None] <= fixed + 1e-9).all()
    for i in range(len(RULES)):
        rule = result.metrics["nll"][i, :, 0] + prices[:, None] * result.metrics["depth"][i, :, 0]
        assert (best[:, None] <= rule + 1e-9).all()
    assert result.verdict("oracle", 0).startswith("Oracle") and "right tokens" in result.verdict(
        "oracle", 0
    )


def test_full_depth_differs_from_nothing(made):
    _, result, _ = made
    at = result.point_at("direction_distance", R)
    i = result.index("direction_distance")
    assert result.metrics["depth"][i, at, 0] == pytest.approx(R, abs=0.05)
    assert abs(result.metrics["against_random"][i, at, 0]) < 1e-3
    assert (result.saving[..., 0] >= 0).all() and (
        result.saving[:, 1, 0] >= result.saving[:, 0, 0]
    ).all()


def test_killed_and_resumed_is_the_same(made, model, tmp_path):
    config, result, _ = made
    folder = tmp_path / "again"
    shutil.copytree(config.folder, folder)
    (folder / "tokens-000001.npz").unlink()
    (folder / ".tokens-000002.npz.1").write_bytes(b"half")
    again = StudyConfig(**{**vars(config), "out": str(folder)})
    with pytest.raises(ExistsError):
        study(model, again, rules=RULES)
    resumed = study(model, again, rules=RULES, resume=True)
    for name, found in result.metrics.items():
        assert np.array_equal(found, resumed.metrics[name], equal_nan=True), name
    assert HaltingStudy.read(folder).to_frame().equals(result.to_frame())


def test_figures_say_what_is_asked(made):
    _, result, _ = made
    figure = result.figure(mark=("kl", 1), x="depth")
    names = [trace.name for trace in figure.data]
    assert "one depth for all" in names and "Oracle (bound)" in names
    assert "its exits dealt at random" in names
    assert len(result.figure(view="classes", mark=("kl", 1)).data) == 1
    with pytest.raises(InputError, match="x="):
        result.figure(x="dollars")
    with pytest.raises(InputError, match="rule="):
        result.figure(rules=["kll"])


def test_risk_is_controlled_on_half_and_tested_on_the_other(made):
    config = made[0]
    found = control_risk(config.folder, "kl", target=0.5, delta=0.45, n_thresholds=6)
    assert found.n_documents == (3, 3) and (np.diff(found.test_depth) <= 1e-9).all()
    assert found.chosen >= 0 and found.p_value[found.chosen] <= 0.45
    strict = control_risk(config.folder, "kl", target=0.01, delta=0.1, n_thresholds=6)
    assert (
        strict.chosen == -1 and np.isnan(strict.threshold) and "no threshold" in strict.sentence()
    )
    assert {trace.name for trace in found.figure().data} >= {"calibration", "test"}
    arrays, meta = found.to_arrays()
    assert probes.RiskControl.from_arrays(arrays, meta).sentence() == found.sentence()
    with pytest.raises(InputError, match="no rule that could be used"):
        control_risk(config.folder, "oracle")


def test_thresholds_by_depth(made):
    _, result, tokens = made
    for i, rule in enumerate(result.rules[:-1]):
        for depth in (1.0, 2.5, 3.7, R):
            level = thresholds.at_depth(rule, tokens.values[i], depth)
            assert thresholds.mean_depth(rule, tokens.values[i], level) == pytest.approx(
                depth, abs=0.05
            )
    with pytest.raises(InputError, match="depth="):
        thresholds.at_depth(result.rules[0], tokens.values[0], R + 1)


def test_calibration_of_known_confidence():
    sums = np.zeros((2, 2, 960))
    sums[0, 1, 955], sums[0, 0, 5] = 30, 70  # sure and right, unsure and wrong
    sums[1, 1, 955], sums[1, 0, 5] = 30 * 0.995, 70 * 0.006
    ece, auroc, hidden = calibration(sums)
    assert ece == pytest.approx(0.3 * 0.005 + 0.7 * 0.006) and auroc == 1 and hidden == 0
    sums[0, 0, 955] = 30
    assert calibration(sums)[2] > 0
    assert np.isnan(calibration(np.zeros((2, 2, 960)))[1])


def test_settings_are_checked():
    with pytest.raises(ConfigError, match="points=0"):
        StudyConfig(data="x", out="y", points=0)
