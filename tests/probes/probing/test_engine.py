"""fit_many: agreement with scikit-learn, planted signals, controls, intervals, bad labels."""

import numpy as np
import pytest
import torch
from scipy.stats import norm
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

import probes
from abbie_lens.errors import InputError
from probes.probing.ridge import _gram
from probes.probing.scores import Scorer
from probes.probing.split import Split
from probes.probing.standard import scaler
from probes.probing.targets import targets

N_DOCUMENTS, LENGTH, WIDTH = 30, 40, 12
N = N_DOCUMENTS * LENGTH
DOCUMENTS = np.repeat(np.arange(N_DOCUMENTS), LENGTH)
# the last ten documents are the test part
PARTS = Split(np.arange(0, 600), np.arange(600, 800), np.arange(800, N))
EXACT: dict = dict(dtype=torch.float64, tol=1e-6, penalties=(1.0,), parts=PARTS, shuffled=False)


def drawn(seed=0, n_classes=4, strength=1.5):
    """Correlated features of unlike scale, and labels that depend on them in part."""
    rng = np.random.default_rng(seed)
    x = (
        rng.normal(size=(N, WIDTH))
        @ rng.normal(size=(WIDTH, WIDTH))
        * 10.0 ** rng.uniform(-2, 2, WIDTH)
    )
    scores = StandardScaler().fit_transform(x) @ rng.normal(size=(WIDTH, n_classes)) * strength
    return x, (scores + rng.gumbel(size=scores.shape)).argmax(1)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_logistic_is_scikit_learns(n_classes):
    x, y = drawn(n_classes=n_classes)
    fits = probes.fit_many([x, x[:, :7]], y, DOCUMENTS, **EXACT)
    assert fits.converged.all()
    for features, probe, score in zip((x, x[:, :7]), fits.probes, fits.score, strict=True):
        scaler = StandardScaler().fit(features[PARTS.train])
        theirs = LogisticRegression(tol=1e-8, max_iter=3000)
        theirs.fit(scaler.transform(features[PARTS.train]), y[PARTS.train])
        np.testing.assert_allclose(probe.coef, theirs.coef_, atol=1e-3)
        np.testing.assert_allclose(probe.intercept, theirs.intercept_, atol=1e-3)
        np.testing.assert_allclose(probe.mean, scaler.mean_, rtol=1e-9)
        expected = theirs.score(scaler.transform(features[PARTS.test]), y[PARTS.test])
        assert score[0] == pytest.approx(expected, abs=2e-3)
        at = scaler.transform(features[PARTS.test])
        np.testing.assert_allclose(
            probe.probabilities(features[PARTS.test]), theirs.predict_proba(at), atol=1e-3
        )


def test_float32_gives_the_same_probe():
    x, y = drawn(1)
    exact = probes.fit_many([x], y, DOCUMENTS, **EXACT)
    single = probes.fit_many([x], y, DOCUMENTS, **EXACT | dict(dtype=torch.float32, tol=1e-4))
    assert single.score[0, 0] == pytest.approx(exact.score[0, 0], abs=3e-3)
    np.testing.assert_allclose(single.probes[0].coef, exact.probes[0].coef, atol=5e-3)


def test_ridge_is_scikit_learns():
    x, _ = drawn(2)
    y = np.stack([x[:, 0] + 3, np.random.default_rng(0).normal(size=N)], 1)
    fits = probes.fit_many([x], y, DOCUMENTS, **EXACT | dict(penalties=(7.0,)))
    scaler = StandardScaler().fit(x[PARTS.train])
    theirs = Ridge(7.0).fit(scaler.transform(x[PARTS.train]), y[PARTS.train])
    np.testing.assert_allclose(fits.probes[0].coef, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(fits.probes[0].intercept, theirs.intercept_, atol=1e-6)
    true, said = y[PARTS.test], theirs.predict(scaler.transform(x[PARTS.test]))
    seen = y[PARTS.train]
    misses = np.square((true - said) / seen.std(0)).sum()
    total = np.square((true - seen.mean(0)) / seen.std(0)).sum()
    assert fits.score[0, 0] == pytest.approx(1 - misses / total, abs=1e-6)
    assert fits.majority[0] == 0


def test_several_labels_are_a_probe_each():
    x, y = drawn(3)
    labels = np.stack([y == 0, y > 1], 1).astype(int)
    both = probes.fit_many([x], labels, DOCUMENTS, **EXACT)
    for i in range(2):
        one = probes.fit_many([x], labels[:, i], DOCUMENTS, **EXACT)
        np.testing.assert_allclose(both.probes[0].coef[i], one.probes[0].coef[0], atol=1e-4)
    right = (both.said[0] == labels[PARTS.test]).mean()
    assert both.score[0, 0] == pytest.approx(right)


def test_the_penalty_is_the_one_that_validation_documents_prefer():
    x, y = drawn(4, strength=0.1)
    rng = np.random.default_rng(0)
    x = np.concatenate([x, rng.normal(size=(N, 200))], 1)
    path = (1.0, 1000.0)
    fits = probes.fit_many([x], y, DOCUMENTS, parts=PARTS, penalties=path)
    held, losses = PARTS.validation, []
    for penalty in path:
        probe = probes.fit_many([x], y, DOCUMENTS, parts=PARTS, penalties=(penalty,)).probes[0]
        losses.append(-np.log(probe.probabilities(x[held])[np.arange(len(held)), y[held]]).mean())
    assert fits.penalty[0] == path[int(np.argmin(losses))] == 1000


def test_planted_at_iteration_3_it_peaks_there_and_nowhere_else():
    rng = np.random.default_rng(0)
    y, types = rng.integers(0, 2, N), rng.integers(0, 200, N)
    states = rng.normal(size=(6, N, WIDTH))
    states[3, :, 5] += 1.5 * (2 * y - 1)
    embedding = rng.normal(size=(200, WIDTH))[types]
    fits = probes.fit_many([embedding, *states], y, DOCUMENTS, types=types)
    assert fits.score[:, 0].argmax() == 4 and fits.score[4, 1] > 0.85
    others = np.delete(fits.score, 4, axis=0)
    assert (others[:, 1] < 0.56).all() and (others[:, 2] > 0.44).all()
    assert fits.shuffled[4, 1] < 0.55 and fits.shuffled[4, 2] > 0.45
    assert fits.control[4, 0] < 0.65 and fits.selectivity[4, 1] > 0.2
    np.testing.assert_allclose(fits.selectivity[:, 0], fits.score[:, 0] - fits.control[:, 0])
    assert fits.confusion(4).sum() == len(fits.split.test)
    assert np.trace(fits.confusion(4)) / len(fits.split.test) == pytest.approx(fits.score[4, 0])


def test_the_control_task_can_be_learnt_from_word_types_alone():
    rng = np.random.default_rng(1)
    types, y = rng.integers(0, 20, N), rng.integers(0, 2, N)
    fits = probes.fit_many([np.eye(20)[types]], y, DOCUMENTS, types=types, penalties=(1.0,))
    assert fits.control[0, 0] == 1 and fits.selectivity[0, 2] < 0


def test_intervals_cover_the_truth():
    """Each document leans to one side: only an interval over documents is wide enough."""
    rng, covered, narrow = np.random.default_rng(0), 0, 0
    n_documents = 60
    documents = np.repeat(np.arange(n_documents), 20)
    parts = Split(np.arange(0, 400), np.arange(0), np.arange(400, 1200))
    for seed in range(100):
        y = rng.integers(0, 2, len(documents))
        # what is true of the answers: P(right) over documents and tokens is 0.75
        lean = rng.uniform(0.5, 1.0, n_documents)[documents]
        said = np.where(rng.uniform(size=len(y)) < lean, y, 1 - y)[parts.test]
        scorer = Scorer(targets(y, len(y)), parts, documents, seed)
        _, low, high = scorer.score(said[None])[0]
        covered += low <= 0.75 <= high
        narrow += high - low
    assert covered >= 90 and narrow / 100 < 0.12


def test_intervals_of_planted_probes_cover_what_each_would_get_on_endless_text():
    rng, shift = np.random.default_rng(1), 0.6
    documents = np.repeat(np.arange(60), 20)
    parts = Split(np.arange(0, 400), np.arange(0), np.arange(400, 1200))
    y = rng.permutation(np.arange(1200) % 2)
    states = rng.normal(size=(100, 1200, 3))
    states[:, :, 0] += shift * (2 * y - 1)
    fits = probes.fit_many(
        list(states), y, documents, parts=parts, penalties=(1.0,), shuffled=False
    )
    covered = 0
    for probe, (_, low, high) in zip(fits.probes, fits.score, strict=True):
        direction = probe.direction[0]
        offset = probe.intercept[0] - direction @ probe.mean
        ends = (direction[0] * shift + np.array([offset, -offset])) / np.linalg.norm(direction)
        covered += low <= norm.cdf(ends).mean() <= high
    assert covered >= 90


def test_states_of_any_scale_and_states_that_are_not_finite():
    x, y = drawn(5)
    large = (x / np.abs(x).max() * 2.0**120).astype(np.float32)
    broken = x.copy()
    broken[900, 0] = np.inf
    fits = probes.fit_many([x, large, broken], y, DOCUMENTS, parts=PARTS)
    np.testing.assert_allclose(fits.score[0], fits.score[1], atol=0.01)
    assert np.isnan(fits.score[2]).all() and fits.probes[2] is None
    assert not fits.confusion(2).any()


@pytest.mark.parametrize("size", [1.0, 2.0**62, 2.0**-80])
def test_the_scaler_of_float32_states_is_that_of_float64(size):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(1500, 6)) * [1, 1e-3, 5, 1, 1, 0] + [0, 1, 3e3, 50, 0, 7]) * size
    x = torch.tensor(x, dtype=torch.float32)
    found, exact = scaler(x), scaler(x.double())
    np.testing.assert_allclose(found.scale, exact.scale, rtol=2e-6)
    assert (
        np.abs(found.mean - exact.mean) <= 1e-6 * exact.scale + 1e-14 * np.abs(exact.mean)
    ).all()


def test_the_blocks_of_a_gram_matrix_are_the_whole():
    x = torch.randn(2, 50, 130, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(_gram(x), x.transpose(1, 2) @ x)


@pytest.mark.gpu
@pytest.mark.parametrize("numbers", [False, True])
def test_on_a_gpu_scores_and_penalties_are_the_same(numbers):
    x, y = drawn()
    labels = y + 0.5 if numbers else y
    given: dict = dict(types=np.arange(N) % 50, parts=PARTS)
    here, there = (probes.fit_many([x, x[:, :7]], labels, DOCUMENTS, device=d, **given) for d in ("cpu", "cuda"))  # fmt: skip
    np.testing.assert_array_equal(there.penalty, here.penalty)
    np.testing.assert_allclose(there.score, here.score, atol=0.005)
    np.testing.assert_allclose(there.control, here.control, atol=0.02)


def test_groups_change_nothing(monkeypatch):
    x, y = drawn(6)
    given: dict = dict(parts=PARTS, dtype=torch.float64, tol=1e-5)
    together = probes.fit_many([x, x * 2 + 1, x[:, :5]], y, DOCUMENTS, **given)
    monkeypatch.setattr("probes.probing.task._GROUP_ELEMENTS", 1)
    apart = probes.fit_many([x, x * 2 + 1, x[:, :5]], y, DOCUMENTS, **given)
    np.testing.assert_array_equal(together.said, apart.said)
    np.testing.assert_array_equal(together.penalty, apart.penalty)


def test_no_document_is_on_two_sides():
    x, y = drawn(7)
    for seed in range(5):
        parts = probes.fit_many([x[:, :2]], y, DOCUMENTS, seed=seed, tol=0.1, shuffled=False).split
        sides = [set(DOCUMENTS[s].tolist()) for s in (parts.train, parts.validation, parts.test)]
        assert sum(map(len, sides)) == len(set.union(*sides)) == N_DOCUMENTS
        assert sides[2] and sides[1]


def test_bad_labels_and_features_are_named():
    x, y = drawn()
    numbers = y.astype(float)
    numbers[7] = np.nan
    absent = np.where(np.arange(N)[:, None] == PARTS.test[:, None].T, 4, 0).max(1)
    for labels, given, message in (
        (y[:-1], {}, f"labels: {N - 1} of them for {N} tokens"),
        (np.zeros(N, int), {}, "every token has class '0'"),
        (numbers, {}, "token 7 has nan"),
        (np.where(absent == 4, 4, y), {"parts": PARTS}, "no training token has class '4'"),
        (np.stack([y, y], 1), {}, "must be 0 or 1"),
        (y - 1, {}, "at least 0"),
        (np.array(["a"] * N), {}, "expected numbers"),
        (y, {"classes": ("a", "b")}, "2 names"),
        (y, {"kind": "class"}, "kind='class'"),
        (y, {"penalties": (0,)}, "penalties="),
        (y, {"types": y[:3]}, "types: 3 of them"),
        (np.zeros((N, 1), int), {"parts": PARTS}, "is 0 for every training token"),
    ):
        with pytest.raises(InputError, match=message):
            probes.fit_many([x], labels, DOCUMENTS, **given)
    with pytest.raises(InputError, match=r"features\[1\]: shape \(3, 12\)"):
        probes.fit_many([x, x[:3]], y, DOCUMENTS)
    with pytest.raises(InputError, match="features: none"):
        probes.fit_many([], y, DOCUMENTS)
    with pytest.raises(InputError, match="needs at least 3"):
        probes.fit_many([x], y, np.zeros(N, int))
    with pytest.raises(probes.Cancelled):
        probes.fit_many([x, x], y, DOCUMENTS, parts=PARTS, progress=lambda done, total: done < 1)
