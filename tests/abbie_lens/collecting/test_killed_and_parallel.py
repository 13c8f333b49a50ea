"""Killed at any moment and begun again, or run by two processes: the same collection."""

import random
import signal
import time

import pytest
import torch

from abbie_lens.collecting import Collection
from tests import warm
from tests.corpus import text

DEPTH, TOKENS = "2", "96"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\f".join(text(s, n) for s, n in enumerate((900, 40, 1500, 300))))
    return path


@pytest.fixture(scope="module")
def saved(tiny_model, tiny_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    tiny_model(tokenizer=tiny_tokenizer, d_vocab=300).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def command(saved, corpus):
    def make(out, *more):
        return [
            *("-m", "app.cli", "collect", str(saved), "--data", str(corpus), "--out", str(out)),
            *("--n-iters", DEPTH, "--window", "32", "--shard-tokens", TOKENS, "--batch-size", "1"),
            *("--store", "float32", "--device", "cpu", "--share", "0.7", *more),
        ]

    return make


@pytest.fixture(scope="module")
def run(command):
    return lambda out, *more, **env: warm.start(*command(out, *more), env=env)


@pytest.fixture(scope="module")
def whole(run, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "states"
    process = run(out)
    assert process.wait() == 0, process.stderr
    return Collection.open(out)


def same(a, b):
    assert a.complete and b.complete
    assert a.index().equals(b.index())
    for row in range(int(DEPTH) + 1):
        address = f"loop.hook_state@{row}"
        assert torch.equal(torch.cat([*a.tensors(address)]), torch.cat([*b.tensors(address)]))


@pytest.mark.slow
def test_killed_again_and_again(run, whole, tmp_path):
    """Each try is killed once it has written some shards more, at a moment of chance."""
    out, generator = tmp_path / "states", random.Random(0)
    kills, n_before = 0, 0
    for _ in range(4):
        process = run(out, *(["--resume"] if out.exists() else []))
        while process.poll() is None and len(list(out.glob("shard-*.parquet"))) <= n_before + 3:
            time.sleep(0.002)
        time.sleep(generator.random() * 0.03)
        kills += process.kill() == -signal.SIGKILL
        n_now = len(list(out.glob("shard-*.parquet")))
        assert n_now >= n_before
        n_before = n_now
    assert kills >= 2 and not Collection.open(out).complete
    process = run(out, "--resume")
    assert process.wait() == 0, process.stderr
    same(Collection.open(out), whole)
    assert not list(out.glob(".*"))


@pytest.mark.slow
def test_two_processes_equal_one(run, whole, tmp_path):
    out = tmp_path / "states"
    for process in [run(out, **each) for each in warm.pair()]:
        assert process.wait() == 0, process.stderr
    same(Collection.open(out), whole)


def test_bad_usage_is_one_line(run, tmp_path):
    process = run(tmp_path / "states", "--site", "loop.hook_stat")
    assert process.wait() == 1
    error = process.stderr.strip()
    assert "loop.hook_state" in error.splitlines()[-1] and "Traceback" not in error
