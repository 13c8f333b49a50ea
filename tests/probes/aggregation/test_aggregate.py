"""What is folded over a corpus is what one would compute from all values at once."""

import dataclasses

import numpy as np
import pytest

from abbie_lens.errors import CheckpointError, ConfigError, ExistsError, InputError
from probes import fixed_point
from probes.aggregation import ANALYSES, AggregateConfig, CorpusAnalysis, aggregate
from probes.aggregation.part import Part, merged
from probes.aggregation.result import weighted_quantiles
from tests.corpus import text

R = 6


@pytest.fixture(scope="module")
def model(tiny_model, tiny_tokenizer):
    return tiny_model(tokenizer=tiny_tokenizer, d_vocab=300)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "texts.txt"
    path.write_text("\f".join(text(s, n) for s, n in enumerate((90, 30, 60, 45))))
    return path


@pytest.fixture
def config(corpus, tmp_path):
    def make(**changes):
        plain = dict(
            data=str(corpus), out=str(tmp_path / "out"), n_iters=R, window=32,
            stretch_tokens=200, sample=5000,
        )  # fmt: skip
        return AggregateConfig(**(plain | changes))

    return make


def test_means_and_quantiles_are_those_of_all_windows(model, config, corpus):
    result = aggregate(model, config(), ANALYSES["fixed_point"])
    raw, norm, settled, count = [], [], [], 0
    for document in corpus.read_text().split("\f"):
        ids = model.tokenizer.encode(document)
        for i in range(0, len(ids), 31):
            one = fixed_point(model, [0, *ids[i : i + 31]], R, control=False)
            raw.append(one.raw[:, 0, 1:])
            norm.append(one.norm[:, 0, 1:])
            settled.append(one.per_token()["verdict settles"][:, 0, 1:])
            count += raw[-1].shape[1]
    assert result.n_tokens == count and result.n_documents == 4
    for metric, parts in (("raw", raw), ("norm", norm), ("verdict settles", settled)):
        values = np.concatenate(parts, axis=1)
        assert result.mean[metric][0, 0] == pytest.approx(values.mean(1), rel=1e-4)
        assert (result.count[metric][0, 0] == count).all()
    values = np.concatenate(raw, axis=1)
    # the sample holds every token here; weighted quantiles are a step function of the values
    for level, found in zip((0.1, 0.5, 0.9), result.quantile["raw"][:, 0, 0], strict=True):
        below = (values <= found[:, None] * (1 + 1e-6)).mean(1)
        assert (np.abs(below - level) <= 1.5 / count).all()
    assert (result.low["raw"][0] < result.mean["raw"][0, 0]).all()
    assert (result.high["raw"][0] > result.mean["raw"][0, 0]).all()


def test_classes_add_up_and_controls_differ(model, config):
    result = aggregate(model, config(), ANALYSES["fixed_point"])
    assert result.variants == ("trained", "random", "shuffled")
    means, counts = result.mean["raw"], result.count["raw"]
    assert (counts[:, 1:].sum(1) == counts[:, 0]).all()
    added = np.nansum(means[:, 1:] * counts[:, 1:], axis=1) / counts[:, 0]
    assert added == pytest.approx(means[:, 0])
    assert not np.allclose(means[0, 0], means[1, 0], rtol=1e-3)
    assert not np.allclose(means[0, 0], means[2, 0], rtol=1e-6)
    frame = result.to_frame()
    assert set(frame["class"]) == set(result.classes) and (frame.metric == "raw").sum() == (
        3 * len(result.classes) * R
    )


def test_stretches_batches_and_kills_change_nothing(model, config, tmp_path):
    whole = aggregate(model, config(variants=("trained",)), ANALYSES["fixed_point"])
    again = config(variants=("trained",), stretch_tokens=70, out=str(tmp_path / "again"))

    class Stop(Exception):
        pass

    def stop(now):
        if now.n_tokens > 300:
            raise Stop

    with pytest.raises(Stop):
        aggregate(model, again, ANALYSES["fixed_point"], on_progress=stop)
    with pytest.raises(CheckpointError, match="no finished analysis"):
        CorpusAnalysis.read(again.folder)
    with pytest.raises(ExistsError, match="resume"):
        aggregate(model, again, ANALYSES["fixed_point"])
    changed = dataclasses.replace(again, n_iters=R + 1)
    with pytest.raises(InputError, match="n_iters"):
        aggregate(model, changed, ANALYSES["fixed_point"], resume=True)
    result = aggregate(model, again, ANALYSES["fixed_point"], resume=True)
    for name in ("mean", "low", "high", "quantile"):
        for metric, values in getattr(whole, name).items():
            assert getattr(result, name)[metric] == pytest.approx(values, rel=1e-4, nan_ok=True), (
                name, metric,
            )  # fmt: skip


def test_a_small_sample_is_uniform_and_the_same_whatever_is_added_first():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4000, 1, 2))
    classes, documents = np.zeros(4000, int), np.arange(4000) // 100
    draws = generator.integers(0, 2**63, 4000, dtype=np.uint64)
    make = lambda rows: Part.of(  # noqa: E731
        values[rows], classes[rows], documents[rows], draws[rows], 1, 400
    )
    one = merged([make(slice(0, 1000)), make(slice(1000, 4000))])
    other = merged([make(slice(2500, 4000)), make(slice(0, 2500))])
    assert (one.draws == other.draws).all() and (one.sample == other.sample).all()
    assert (one.document_sums == pytest.approx(other.document_sums)) and len(one.documents) == 40
    assert abs(np.median(one.sample[..., 0])) < 4 * 1.2533 / 400**0.5


def test_undefined_values_count_for_nothing():
    values = np.array([[[1.0, np.nan]], [[3.0, np.inf]], [[np.nan, 5.0]]])
    made = Part.of(
        values, np.array([0, 0, 1]), np.zeros(3, int), np.arange(3, dtype=np.uint64), 2, 4
    )
    assert made.counts[0].tolist() == [[2, 0], [0, 1]] and made.sums[0].tolist() == [[4, 0], [0, 5]]


def test_weighted_quantiles():
    assert weighted_quantiles(
        np.array([3.0, 1.0, 2.0]), np.array([8.0, 1.0, 1.0]), (0.1, 0.5)
    ).tolist() == [1, 3]


def test_a_result_without_values_by_token_is_refused(model, config):
    with pytest.raises(InputError, match="no values by token"):
        aggregate(model, config(), lambda *_, **__: object())


@pytest.mark.parametrize(
    "changes",
    [dict(variants=("random",)), dict(variants=("trained", "x")), dict(n_iters=0), dict(sample=1)],
)
def test_bad_settings(config, changes):
    with pytest.raises(ConfigError, match=next(iter(changes))):
        config(**changes)


def test_figures_and_files(model, config):
    result = aggregate(model, config(), ANALYSES["fixed_point"])
    again = CorpusAnalysis.read(config().folder)
    assert again.to_frame().equals(result.to_frame())
    fig = result.figure(metrics=("raw", "direction"))
    assert sum(t.name == "random weights" for t in fig.data) == 2
    by_class = result.figure(metrics=("raw",), by="class", theme="dark")
    assert {t.name for t in by_class.data} >= {"word start", "punctuation"}
    with pytest.raises(InputError, match="known are"):
        result.figure(metrics=("distance",))
    with pytest.raises(InputError, match="by="):
        result.figure(by="token")


@pytest.mark.parametrize("name", ANALYSES)
def test_every_analysis_by_name_is_folded(model, config, name):
    settings = config(n_iters=4, window=8, max_tokens=10, variants=("trained",))
    result = aggregate(model, settings, ANALYSES[name])
    assert result.n_tokens >= 10
    assert any(np.isfinite(values).any() for values in result.mean.values())
    limits = [metric for metric in result.mean if metric.startswith("limit_direction")]
    there = [np.isfinite(result.mean[metric][0, 0]).all() for metric in limits]
    assert there == [name != "distances"] * len(limits)


def test_a_run_goes_on_only_with_the_analysis_that_it_was_begun_with(model, config):
    settings = config(max_tokens=60, variants=("trained",))
    aggregate(model, settings, ANALYSES["distances"])
    with pytest.raises(InputError, match="limit_times"):
        aggregate(model, settings, ANALYSES["fixed_point"], resume=True)
