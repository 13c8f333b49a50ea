"""A killed run continues as if nothing had happened; what would bend its curve is refused."""

import dataclasses
import json
import random
import signal
import time

import pytest

from abbie_lens.errors import ConfigError
from abbie_lens.training import train
from tests import warm

QUIET = dict(on_progress=lambda now: None)


def test_killed_at_a_random_step_the_loss_curve_is_the_uninterrupted_one(
    settings, finished, losses, tmp_path
):
    config = settings(tmp_path / "run")
    (tmp_path / "config.json").write_text(json.dumps(config.to_dict()))
    process = warm.start("-m", "abbie_lens.training", "--config", str(tmp_path / "config.json"))
    step = random.randint(2, 22)
    out, deadline = tmp_path / "run" / "metrics.jsonl", time.monotonic() + 120
    while not out.is_file() or len(losses(tmp_path / "run")) < step:
        assert process.poll() is None, process.stderr
        assert time.monotonic() < deadline, "the run did not get anywhere"
        time.sleep(0.002)
    assert process.kill() == -signal.SIGKILL, f"it was over before the kill at step {step}"
    train(dataclasses.replace(config, resume=True), **QUIET)
    assert losses(tmp_path / "run") == losses(finished), f"killed at step {step}"


class Killed(Exception):
    """Raised from a callback, in place of a kill."""


def stop_at(step):
    def report(now):
        if now.step == step:
            raise Killed

    return report


def interrupted(config, step):
    with pytest.raises(Killed):
        train(config, on_progress=stop_at(step))
    return dataclasses.replace(config, resume=True)


def test_resumed_before_the_first_checkpoint_it_starts_over(settings, finished, losses, tmp_path):
    train(interrupted(settings(tmp_path / "run"), step=3), **QUIET)
    assert losses(tmp_path / "run") == losses(finished)


def test_a_cut_last_line_of_the_metrics_is_dropped(settings, finished, losses, tmp_path):
    config = interrupted(settings(tmp_path / "run"), step=8)
    with open(tmp_path / "run" / "metrics.jsonl", "a") as out:
        out.write('{"step": 9, "lo')
    train(config, **QUIET)
    assert losses(tmp_path / "run") == losses(finished)


def test_the_length_may_change_before_the_decay(settings, finished, losses, tmp_path):
    longer = settings(tmp_path / "run", train_tokens=2 * 24 * 8 * 23)
    config = interrupted(longer, step=12)
    train(dataclasses.replace(config, train_tokens=24 * 8 * 23), **QUIET)
    assert losses(tmp_path / "run") == losses(finished)


def test_the_length_is_fixed_once_the_rate_decays(settings, tmp_path):
    config = interrupted(settings(tmp_path / "run"), step=22)
    with pytest.raises(ConfigError, match=r"train_tokens=9000: at step 20 .* already decays"):
        train(dataclasses.replace(config, train_tokens=9000), **QUIET)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(seed=1), "seed=1: the run to resume was started with 0"),
        (dict(learning_rate=1e-4), "learning_rate=0.0001"),
        (dict(micro_batch_size=2), "micro_batch_size=2"),
        (dict(data="heldout.txt"), "is not the text the run was started with"),
    ],
)
def test_another_run_is_not_a_continuation(settings, corpus, tmp_path, changes, message):
    config = interrupted(settings(tmp_path / "run"), step=7)
    if "data" in changes:
        (tmp_path / "run" / "data" / "train.json").unlink()
        changes = dict(data=str(corpus / "heldout.txt"))
    with pytest.raises(ConfigError, match=message):
        train(dataclasses.replace(config, **changes), **QUIET)


def test_a_finished_run_is_left_alone(settings, tmp_path):
    config = settings(tmp_path / "run", train_tokens=8 * 23 * 2)
    final = train(config, **QUIET)
    before = {path: path.stat().st_mtime_ns for path in final.iterdir()}
    assert train(dataclasses.replace(config, resume=True), **QUIET) == final
    assert {path: path.stat().st_mtime_ns for path in final.iterdir()} == before
