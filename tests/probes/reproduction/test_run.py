"""A comparison may be stopped anywhere, does nothing twice, and measures what the model itself would say."""

import contextlib
import dataclasses
import json
import math

import pytest

import abbie_lens
from abbie_lens.errors import InputError
from abbie_lens.training import TokenFile, evaluate
from probes.reproduction import Metrics, ReproduceConfig, reproduce
from probes.reproduction.store import number


class Killed(BaseException):
    """Like a signal: nothing in between may catch it."""


def stages(config, out, stop_at=None, **options):
    """Run, and the (family, what) that began; Killed when stage `stop_at` begins."""
    begun = []

    def tell(stage):
        if not begun or begun[-1] != (stage.family, stage.what):
            begun.append((stage.family, stage.what))
        if stage.number == stop_at:
            raise Killed

    with contextlib.suppress(Killed):
        reproduce(config, out, tell, **options)
    return begun


def test_killed_at_every_stage_it_ends_with_the_same_files(tiny, finished, tmp_path, contents):
    n_stages = len(stages(tiny(), finished))
    for stage in range(1, n_stages + 1):
        stages(tiny(), tmp_path, stop_at=stage)
    assert len(contents(tmp_path / "metrics")) < len(contents(finished / "metrics"))
    reproduce(tiny(), tmp_path)
    assert contents(tmp_path / "metrics") == contents(finished / "metrics")


def test_what_is_finished_is_not_done_again(tiny, finished, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*.json")}
    monkeypatch.setattr("probes.reproduction.run.train", None)
    reproduce(tiny(), finished)
    changed = {str(p) for p, t in before.items() if p.stat().st_mtime_ns != t}
    assert changed == {str(finished / "metrics" / "config.json")}


def test_a_changed_setting_measures_again_what_depends_on_it(tiny, finished, tmp_path, contents):
    import shutil

    out = shutil.copytree(finished, tmp_path / "run")
    measures = {**tiny().measures, "attention": {"windows": 3}}
    before = contents(out / "metrics")
    reproduce(tiny(measures=measures), out)
    after = contents(out / "metrics")
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"config.json", *(f"{f}/attention.json" for f in tiny().families)}


def test_measure_only_leaves_what_is_not_trained(tiny, finished, tmp_path):
    import shutil

    shutil.copytree(finished / "std" / "final", tmp_path / "std" / "final")
    reproduce(tiny(), tmp_path, train_missing=False)
    assert Metrics(tmp_path / "metrics").values("std", "nll") is not None
    assert not (tmp_path / "abbie-d").exists()


def test_a_depth_that_the_loop_refuses_is_null_and_nothing_else_is(finished):
    stored = Metrics(finished / "metrics")
    values = stored.values("adaponder", "nll")
    assert values["n_iters"] == [1, 2, 4]
    assert [v is None for v in values["nll"]] == [False, False, True]
    assert [v is None for v in stored.values("abbie-d", "nll")["nll"]] == [False] * 3
    assert [v is None for v in stored.values("adaponder", "compute")["flops"]] == [
        *[False] * 3,
        True,
    ]
    refused = stored.values("adaponder", "fixed_point")
    assert refused["trained"] is None and "n_iters=4" in refused["refused"]


def test_stored_nll_is_what_evaluate_says_of_the_saved_model(finished):
    model = abbie_lens.load(finished / "abbie-d" / "final")
    text = TokenFile.open(finished / "data" / "heldout.bin")
    expected = evaluate(model, text, (1, 2, 4), max_windows=24)
    stored = Metrics(finished / "metrics").values("abbie-d", "nll")
    assert stored["nll"] == pytest.approx(expected.nll, abs=1e-6)
    assert stored["n_tokens"] == expected.n_tokens


def test_families_are_trained_on_the_same_tokens_and_their_text_is_kept_apart(finished, tiny):
    data = finished / "data"
    files = {family: finished / family / "data" for family in tiny().families}
    assert not any(folder.exists() for folder in files.values()), "a family made data of its own"
    train, held = (TokenFile.open(data / f"{name}.bin") for name in ("train", "heldout"))
    assert (len(train.documents), len(held.documents)) == (4, 2)


def test_nothing_of_this_machine_is_stored(finished, tiny, contents):
    for name, text in contents(finished / "metrics").items():
        assert str(finished.parent).encode() not in text, name
    assert json.loads((finished / "metrics" / "config.json").read_text())["data"] == "text.txt"


def test_missing_text_is_told_with_the_options_to_give(tmp_path, monkeypatch):
    monkeypatch.setenv("ABBIE_LENS_DATA", str(tmp_path / "empty"))
    with pytest.raises(InputError, match="--heldout"):
        reproduce(ReproduceConfig.load("novels"), tmp_path / "out")
    assert not (tmp_path / "out" / "std").exists()


def test_a_token_file_is_used_where_it_lies(tiny, finished, tmp_path):
    data = finished / "data"
    config = tiny(data=str(data / "train.bin"), heldout=str(data / "heldout.bin")).only(["std"])
    reproduce(dataclasses.replace(config, measures=dict.fromkeys(config.measures)), tmp_path)
    assert not (tmp_path / "data").exists()
    theirs = json.loads((finished / "std" / "final" / "config.json").read_text())
    ours = json.loads((tmp_path / "std" / "final" / "config.json").read_text())
    assert ours["weights_sha256"] == theirs["weights_sha256"]


def test_null_is_nan():
    assert math.isnan(number(None)) and number(1.5) == 1.5
