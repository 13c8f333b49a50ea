"""Benchmarks run, compare equal work and report what they say. No test asserts a time."""

import importlib.util
import json
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.errors import CheckpointError
from abbie_lens.loops import FAMILIES, AbbieC, AbbieD
from benchmarks import __main__ as command
from benchmarks import catalogue, collecting, diagnose, peers, report, shapes, timing, training
from benchmarks.plain import PlainLooped
from benchmarks.shapes import TINY
from benchmarks.timing import Pairs
from tests.abbie_lens.bridged import decoders

FIELDS = {"name", "value", "target", "better", "unit", "detail"}
IN_PROCESSES = ("collect_memory", "lens_memory", "load_peak_memory")
"""They start a process for each number: one pair shows that they run."""
PRETRAINED = ("smollm2_diagnose", "smollm2_diagnose_memory")
CPU_NAMES = [
    name
    for name, b in catalogue.BENCHMARKS.items()
    if b.shape.device == "cpu" and name not in PRETRAINED
]
GPU_NAMES = [name for name, b in catalogue.BENCHMARKS.items() if b.shape.device == "cuda"]


def row(**changes):
    plain = dict(name="a", value=1.0, target=1.02, better="lower", unit="ratio", detail="d")
    return plain | changes


@pytest.mark.parametrize("name", CPU_NAMES)
def test_each_runs_at_a_tiny_size(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # nnsight patches every object of the process that imports it.
    without_nnsight = importlib.util.find_spec("nnsight") is None
    apart = name.endswith("nnsight") and not without_nnsight
    monkeypatch.setattr(
        collecting, "LONG", 20
    )  # batches: the size is the benchmark's, not the test's
    pairs = 1 if name in IN_PROCESSES else 2
    made = (catalogue.run_apart if apart else catalogue.run)(name, pairs, TINY)
    assert set(made) == FIELDS
    assert made["better"] in ("lower", "higher") and made["target"] > 0
    assert "2 x 12 tokens" in made["detail"]
    if name.endswith("nnsight") and without_nnsight:
        assert made["value"] is None and "nnsight cannot be imported" in made["detail"]
    else:
        assert made["value"] > 0 and f"Median of {pairs} pair" in made["detail"]
        assert f"torch {torch.__version__}" in made["detail"]


@pytest.mark.parametrize("name", PRETRAINED)
def test_a_diagnose_of_a_pretrained_model_is_timed_and_weighed(name, monkeypatch, tiny_bridge):
    asked = []
    monkeypatch.setattr(diagnose, "load", lambda *given, **more: asked.append(more) or tiny_bridge)
    made = catalogue.run(name, 2, replace(TINY, batch=1, blocks=(1, 2, 1)))
    assert set(made) == FIELDS and made["value"] > 0 and "1 x 12 tokens" in made["detail"]
    assert (asked[0]["loop"].start, asked[0]["loop"].stop) == (1, 3)

    def absent(*given, **more):
        raise CheckpointError("not fetched yet.")

    monkeypatch.setattr(diagnose, "load", absent)
    made = catalogue.run(name, 2)
    assert made["value"] is None and "Not measured: not fetched yet." in made["detail"]


@pytest.fixture
def tiny_bridge(tiny_tokenizer):
    """A tiny plain decoder in a loop."""
    return LoopedBridge(
        decoders.make("llama", vocab_size=len(tiny_tokenizer)), Loop(1, 3, "damped"), tiny_tokenizer
    )


def test_every_family_has_a_training_step_that_is_measured():
    names = {name.removeprefix("training_step_") for name in CPU_NAMES}
    assert set(FAMILIES) - names == {"std"}


def test_a_step_is_held_to_the_time_its_flops_predict(monkeypatch):
    """A loop that takes twice std's FLOPs and twice its time is at 1, whatever its blocks are called."""
    seconds = Pairs(ours=np.array([3.0, 3.0]), theirs=np.array([1.0, 2.0]))
    monkeypatch.setattr(training, "paired", lambda ours, theirs, pairs, **_: seconds)
    timed = training.step_vs_flops("lt")(TINY, 2)
    block = 2 * (4 * 16 * 16 + 3 * 16 * 32 + 2 * 12 * 16)
    unembed = 2 * 16 * 300
    predicted = (3 * 7 * block + unembed) / (7 * block + unembed)
    assert timed.time_ratios == pytest.approx([3 / predicted, 1.5 / predicted])
    assert training.preset_shape("lt", TINY).blocks == (0, 7, 0)
    assert training.preset_shape("spiral", TINY) == replace(TINY, n_iters=3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="it would be measured here")
@pytest.mark.parametrize("name", GPU_NAMES)
def test_a_gpu_target_has_no_value_where_there_is_no_gpu(name):
    made = catalogue.run(name, 2)
    assert made["value"] is None and "no CUDA device" in made["detail"]


@pytest.mark.parametrize(("unit", "median"), [(catalogue.TIME, 3.0), (catalogue.SPEED, 1 / 3)])
def test_the_value_is_the_median_of_the_pairs_ratios(unit, median, monkeypatch):
    # The ratio of the medians would be 2/2 = 1, the mean of the ratios 3.5.
    pairs = Pairs(ours=np.array([1.0, 2.0, 6.0]), theirs=np.array([2.0, 0.2, 2.0]))
    assert sorted(pairs.time_ratios) == pytest.approx([0.5, 3.0, 10.0])

    def measured(shape, pairs_wanted):
        """What."""
        return pairs

    benchmark = catalogue.Benchmark("x", 1.0, "lower", unit, measured)
    monkeypatch.setitem(catalogue.BENCHMARKS, "x", benchmark)
    made = catalogue.run("x", 3)
    assert made["value"] == pytest.approx(median, abs=1e-4)
    assert made["detail"].startswith("What. Median of 3 pairs")


def test_runs_alternate_and_who_goes_first_changes(monkeypatch):
    order = []
    clock = iter(range(1000))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: float(next(clock)))
    timed = timing.paired(lambda: order.append("a"), lambda: order.append("b"), 4, warmup=1)
    assert "".join(order) == "ab" + "abbaabba"
    assert timed.ours.tolist() == timed.theirs.tolist() == [1.0] * 4


def test_slower_work_has_a_larger_ratio():
    timed = timing.paired(lambda: time.sleep(0.05), lambda: None, 2)
    assert (timed.time_ratios > 1).all() and (timed.speed_ratios < 1).all()


def test_unequal_work_is_refused():
    model = TINY.model(AbbieD())  # its carry makes it another function than the unrolled stack
    with pytest.raises(AssertionError, match="not equal work"):
        peers.llama(model, TINY)


def test_the_plain_loop_is_our_network():
    model, plain = TINY.model(AbbieD()), PlainLooped(TINY)
    weights = model.state_dict()
    weights.pop("unembed.weight")
    plain.load_state_dict(weights)
    tokens = TINY.tokens()
    torch.testing.assert_close(plain(tokens), model(tokens), rtol=1e-5, atol=1e-5)


def test_the_bridge_and_llama_have_one_layer_for_each_application():
    model = TINY.model(AbbieC())
    assert len(peers.unrolled(model)) == TINY.n_layers == 10
    assert len(peers.llama(model, TINY).model.layers) == 10


@pytest.mark.parametrize(
    ("better", "value", "met"),
    [
        ("lower", 1.02, True), ("lower", 1.021, False), ("lower", None, None),
        ("higher", 1.02, True), ("higher", 1.019, False), ("higher", None, None),
    ],
)  # fmt: skip
def test_whether_a_target_is_met(better, value, met):
    assert report.met(row(better=better, value=value)) is met


def test_results_md_shows_what_results_json_holds(tmp_path):
    rows = [row(value=0.98765), row(name="b", value=None, better="higher", target=0.97)]
    report.write(rows, tmp_path / "results.json", tmp_path / "RESULTS.md")
    assert json.loads((tmp_path / "results.json").read_text()) == rows == report.read(
        tmp_path / "results.json"
    )  # fmt: skip
    text = (tmp_path / "RESULTS.md").read_text()
    assert "| `a` | 0.988 | ≤ 1.02 | met |" in text
    assert "| `b` | – | ≥ 0.97 | not measured |" in text


def test_measuring_one_keeps_the_others():
    old = [row(name="b", value=1.0), row(name="retired"), row(name="a", value=1.0)]
    kept = report.merged(old, [row(name="b", value=2.0)], ["a", "b", "c"])
    assert [(r["name"], r["value"]) for r in kept] == [("a", 1.0), ("b", 2.0)]


def test_the_command_writes_both_files_and_quick_writes_none(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "HERE", tmp_path / "benchmarks")
    (tmp_path / "benchmarks").mkdir()
    forward = catalogue.BENCHMARKS["gpu_forward_vs_transformers"].measure
    absent = catalogue.Benchmark("x", 1.0, "lower", catalogue.TIME, forward, shapes.GPU)
    monkeypatch.setattr(catalogue.Benchmark, "runs_here", False)
    monkeypatch.setattr(command, "BENCHMARKS", {"x": absent})
    monkeypatch.setattr(catalogue, "BENCHMARKS", {"x": absent})
    assert command.main(["--quick"]) == 0
    assert not list(tmp_path.glob("**/*.*"))
    assert "`x`" in capsys.readouterr().out
    assert command.main([]) == 0
    assert report.read(tmp_path / "benchmarks" / "results.json")[0]["value"] is None
    assert "`x`" in (tmp_path / "RESULTS.md").read_text()
    with pytest.raises(SystemExit):
        command.main(["--only", "unknown"])


@pytest.mark.gpu
@pytest.mark.parametrize("name", GPU_NAMES)
def test_each_runs_on_a_gpu(name):
    if name.endswith("nnsight"):
        pytest.importorskip("nnsight")
    shape = replace(TINY, device="cuda", dtype=torch.bfloat16, d_model=64)
    assert catalogue.run(name, 2, shape)["value"] > 0
