"""An analysis of what was collected is the analysis of the text."""

import numpy as np
import pytest

from abbie_lens.collecting import CollectConfig, collect
from abbie_lens.errors import ExistsError, InputError
from abbie_lens.loops import AbbieC
from probes.aggregation import ANALYSES, AggregateConfig, aggregate, aggregate_collected
from tests.corpus import text

R = 5
SITES = ("loop.hook_state", "loop.hook_readout")


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)


@pytest.fixture(scope="module")
def gather(model, tmp_path_factory):
    """`gather(**changes)`: a collection of four documents in several shards, and its settings."""
    folder = tmp_path_factory.mktemp("collected")
    path = folder / "texts.txt"
    path.write_text("\f".join(text(s, n) for s, n in enumerate((60, 30, 40, 25))))
    made = []

    def make(**changes):
        made.append(changes)
        plain = dict(
            data=str(path), out=str(folder / f"states-{len(made)}"), sites=SITES, n_iters=R,
            window=32, shard_tokens=90, dtype="float32",
        )  # fmt: skip
        config = CollectConfig(**(plain | changes))
        collect(model, config)
        return config

    return make


@pytest.fixture(scope="module")
def whole(gather):
    return gather()


@pytest.mark.parametrize("name", ["distances", "orbits", "similarity"])
def test_the_same_numbers_as_on_the_fly(model, whole, name, tmp_path, monkeypatch):
    monkeypatch.setattr("probes.aggregation.collected.TOKENS", 40)
    stored = aggregate_collected(model, whole.out, tmp_path / "stored", name)
    config = AggregateConfig(
        whole.data, str(tmp_path / "run"), R, window=32, stretch_tokens=90, variants=("trained",)
    )
    run = aggregate(model, config, ANALYSES[name])
    assert (stored.n_tokens, stored.n_documents) == (run.n_tokens, run.n_documents)
    assert set(stored.mean) == set(run.mean) and stored.classes == run.classes
    for metric in run.mean:
        assert (stored.count[metric] == run.count[metric]).all(), metric
        for field in ("mean", "low", "high", "quantile"):
            found, expected = (getattr(one, field)[metric] for one in (stored, run))
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5, err_msg=metric)


def test_a_run_that_was_stopped_goes_on(model, whole, tmp_path):
    told = []

    def stop(done, total):
        told.append((done, total))
        return done < 2

    with pytest.raises(Exception, match="cancelled after 2"):
        aggregate_collected(model, whole.out, tmp_path / "out", progress=stop)
    with pytest.raises(ExistsError, match="resume"):
        aggregate_collected(model, whole.out, tmp_path / "out")
    with pytest.raises(InputError, match="analysis name"):
        aggregate_collected(model, whole.out, tmp_path / "out", "orbits", resume=True)
    again = aggregate_collected(model, whole.out, tmp_path / "out", resume=True)
    fresh = aggregate_collected(model, whole.out, tmp_path / "fresh")
    assert again.to_frame().equals(fresh.to_frame()) and told[-1][1] > 2


def test_drawn_tokens_and_half_precision(model, gather, whole, tmp_path):
    """Of a share of the tokens the values are those of the same tokens of the whole; coarse storage says so."""
    drawn = gather(share=0.5)
    with pytest.raises(InputError, match=r"label='current_class'.*share of 0.5.*capitalisation"):
        aggregate_collected(model, drawn.out, tmp_path / "no")
    some, every = (
        aggregate_collected(model, c.out, tmp_path / str(n), label="capitalisation", sample=5000)
        for n, c in enumerate((drawn, whole))
    )
    assert 0.3 * every.n_tokens < some.n_tokens < 0.7 * every.n_tokens
    off = np.abs(some.mean["raw"] - every.mean["raw"])[0, 0]
    assert (off < 0.3 * every.mean["raw"][0, 0]).all() and (off > 0).any()
    half = aggregate_collected(model, gather(dtype="float16").out, tmp_path / "half")
    assert half.mean["norm"][0, 0] == pytest.approx(every.mean["norm"][0, 0], rel=1e-3)


def test_what_is_refused(model, gather, whole, tmp_path, tiny_model, tiny_tokenizer):
    def refused(folder, says, analysis="distances", of=model):
        with pytest.raises(InputError, match=says):
            aggregate_collected(of, folder, tmp_path / "out", analysis)

    refused(whole.out, "analysis='spectrum': stored states are enough for distances", "spectrum")
    states = gather(sites=SITES[:1])
    refused(states.out, "needs loop.hook_readout; collect it with --site loop.hook_state --site")
    assert aggregate_collected(model, states.out, tmp_path / "ok", "orbits").n_tokens
    refused(
        gather(sites=("loop.hook_state@1:3",)).out,
        r"every row of loop.hook_state.*\[1, 2\]",
        "orbits",
    )
    other = tiny_model(AbbieC(), tokenizer=tiny_tokenizer, d_vocab=300, seed=5)
    refused(whole.out, "weight_hash", of=other)
