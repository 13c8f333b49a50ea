"""A study of every kind of model: loops whose depth is bound, that pool tokens, that have a gate; bridged decoders; bfloat16."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens import halting
from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.flops import count_flops
from probes.early_exit import costs
from probes.early_exit.study import study
from probes.early_exit.study_config import StudyConfig
from tests.abbie_lens.bridged import decoders
from tests.abbie_lens.families import make
from tests.corpus import text

R = 2
RULES = ("direction_distance", "kl")


@pytest.fixture
def judged(tmp_path):
    data = tmp_path / "texts.txt"
    data.write_text("\f".join(text(s, n) for s, n in enumerate((24, 18, 30))))

    def run(model, rules=RULES, timed=False, **settings):
        config = StudyConfig(
            str(data), str(tmp_path / "out"), R, window=24, mean_depths=(1.0,), **settings
        )
        return study(model, config, rules=rules, timed=timed)

    return run


def complete(result):
    assert np.isfinite(result.fixed_nll[:, 0]).all()
    assert np.isfinite(result.metrics["nll"][..., 0]).all()
    assert result.histogram.sum(-1) == pytest.approx(1)
    for view in result.report_views:
        assert result.figure(**view).data


@pytest.mark.parametrize("name", ["spiral", "ouro", "adaponder", "relaxed-refuse", "huginn"])
def test_every_kind_of_loop(judged, tiny_tokenizer, name):
    model = make(name, tokenizer=tiny_tokenizer, d_vocab=300)
    gated = model.cfg.loop.gated
    result = judged(model, RULES + (("learned_gate",) if gated else ()))
    complete(result)
    assert np.isfinite(result.metrics["flops"][..., 0]).all()
    assert ("learned_gate" in result.names) == gated


def test_live_points_are_one_run(judged, tiny_tokenizer):
    model = make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300)
    result = judged(model, ("direction_distance",), timed=True)
    i, at = 0, result.point_at("direction_distance", R)
    assert (result.milliseconds[0] > 0).all() and np.isnan(result.milliseconds[-1]).all()
    assert result.live_nll[i, at] == pytest.approx(result.live_fixed_nll[R], rel=1e-3)
    assert abs(result.kv_error[i, at]) < 1e-5
    shown = result.figure(x="milliseconds")
    assert {t.name for t in shown.data} == {"one depth for all", "Direction distance"}
    assert any("KV-sharing" in str(t.customdata) for t in shown.data)


def test_a_bridged_decoder_has_no_flops(judged, tiny_tokenizer):
    model = LoopedBridge(decoders.make("gpt2", vocab_size=300), Loop(1, 3), tiny_tokenizer)
    result = judged(model, timed=True)
    complete(result)
    assert np.isnan(result.fixed_flops).all() and np.isnan(result.metrics["flops"]).all()
    assert "not counted" in result.verdict("kl", 0)
    assert np.isnan(result.milliseconds).all() and np.isfinite(result.fixed_milliseconds[1:]).all()


def test_bfloat16(judged, tiny_tokenizer):
    model = make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300).to(torch.bfloat16)
    complete(judged(model))


def test_gates_and_probes_are_counted():
    model = make("adaponder")
    fitted = halting.ExitProbe(weight=torch.ones(32))
    gate, stable = halting.policy("learned_gate"), halting.policy("direction_distance")
    both = halting.AnyOf(policies=(gate, fitted))
    fixed, own = costs.flops_by_exit(model, [stable, fitted, gate, both], R, 16)
    extra = own - fixed
    assert fixed[-1] == pytest.approx(count_flops(model, R, 16).total)
    assert (extra[0] == 0).all() and extra[1].tolist() == [64, 128, 128]
    assert extra[2, 0] > 0 and extra[3] == pytest.approx(extra[1] + extra[2])


def test_intervals_of_classes_hold_their_values(judged, tiny_tokenizer):
    result = judged(make("abbie-d", tokenizer=tiny_tokenizer, d_vocab=300))
    held = result.class_sizes > 0
    value, low, high = np.moveaxis(result.by_class["nll"][:, :, held], -1, 0)
    there = np.isfinite(low)
    assert there.any() and ((low <= value + 1e-9) & (value <= high + 1e-9))[there].mean() > 0.9
    total = result.exits_by_class.sum(-1)
    assert (total == result.class_sizes).all()
    arrays, meta = result.to_arrays()
    again = probes.HaltingStudy.from_arrays(arrays, meta)
    assert again.to_frame().equals(result.to_frame())
