"""Structural probes find a tree that was written into the states, and only there."""

import numpy as np
import pytest
import torch

import probes
from abbie_lens.errors import InputError
from probes.probing.sentences import Batches, Sentence, rank_correlation, tree_edges


def tree(rng, n):
    """Distances and depths of a random tree, and vectors whose squared distances are its paths."""
    paths = np.zeros((n, n))
    for word in range(1, n):
        parent = rng.integers(0, word)
        paths[word] = paths[parent]
        paths[word, word] = 1
    distance = np.abs(paths[:, None] - paths[None]).sum(-1)
    return paths, distance, paths.sum(-1)


def sentences(rng, n_sentences=40, longest=7):
    found, vectors, at = [], [], 0
    for i in range(n_sentences):
        n = int(rng.integers(4, longest + 1))
        paths, distance, depth = tree(rng, n)
        vectors.append(np.pad(paths, ((0, 0), (0, longest - n))))
        found.append(Sentence(i // 4, np.arange(at, at + n), depth, distance))
        at += n
    return found, np.concatenate(vectors)


def test_a_planted_tree_is_found():
    rng = np.random.default_rng(0)
    found, planted = sentences(rng)
    mixed = planted @ np.linalg.qr(rng.normal(size=(7, 7)))[0] * 3 + 100
    noise = rng.normal(size=mixed.shape)
    fits = probes.fit_structural([noise, mixed], found, rank=7, steps=200)
    assert fits.uuas[1, 0] > 0.9 and fits.distance_rank[1, 0] > 0.9 and fits.depth_rank[1, 0] > 0.9
    assert fits.uuas[0, 0] < 0.65 and fits.distance_rank[0, 0] < 0.5
    assert fits.uuas[1, 1] > fits.chain[2]
    assert fits.distance_map[1].shape == (7, 7)


def test_losses_are_those_of_the_formula_sentence_by_sentence():
    rng = np.random.default_rng(0)
    found, planted = sentences(rng, 5)
    x, weights = torch.tensor(planted, dtype=torch.float32), torch.randn(2, 3, 7)
    batches = Batches.of(found, "cpu")
    apart, below = batches.losses(x[batches.words], weights).tolist()
    expected = np.zeros(2)
    for s in found:
        placed, deep = (planted[s.rows] @ w.T.double().numpy() for w in weights)
        between = np.square(placed[:, None] - placed[None]).sum(-1)
        expected += np.abs(between - s.distance).mean(), np.abs(np.square(deep).sum(-1) - s.depth).mean()  # fmt: skip
    np.testing.assert_allclose([apart, below], expected / len(found), rtol=1e-5)


def test_features_that_are_not_finite_are_nan_beside_those_that_are():
    rng = np.random.default_rng(0)
    found, planted = sentences(rng, 12)
    fits = probes.fit_structural([np.full_like(planted, np.inf), planted], found, steps=2, rank=2)
    assert np.isnan(fits.uuas[0]).all() and np.isnan(fits.depth_rank[0]).all()
    assert np.isfinite(fits.uuas[1, 0])
    # a tree of n words drawn uniformly has each of its n(n − 1)/2 edges with probability 2/n
    assert 2 / 7 <= fits.random_tree[0] <= 2 / 4


def test_edges_and_ranks_by_hand():
    chain = np.abs(np.subtract.outer(np.arange(4), np.arange(4))).astype(float)
    assert tree_edges(chain) == {(0, 1), (1, 2), (2, 3)}
    star = np.array([[0, 1, 1, 1], [1, 0, 2, 2], [1, 2, 0, 2], [1, 2, 2, 0.0]])
    assert tree_edges(star) == {(0, 1), (0, 2), (0, 3)}
    assert rank_correlation(chain, chain**2) == pytest.approx(1)
    assert rank_correlation(chain[:1], -chain[:1]) == pytest.approx(-1)
    assert np.isnan(rank_correlation(np.ones((1, 3)), chain[:1, :3]))


def test_bad_input_is_named():
    rng = np.random.default_rng(0)
    found, planted = sentences(rng, 12)
    with pytest.raises(InputError, match=r"features\[0\]"):
        probes.fit_structural([planted[:3]], found)
    with pytest.raises(InputError, match="rank=0"):
        probes.fit_structural([planted], found, rank=0)
    with pytest.raises(InputError, match="at least 3"):
        probes.fit_structural([planted], found[:4])
    with pytest.raises(InputError, match="at least two words"):
        Sentence(0, np.arange(1), np.zeros(1), np.zeros((1, 1)))
    with pytest.raises(InputError, match="not finite"):
        Sentence(0, np.arange(2), np.array([0, np.nan]), np.zeros((2, 2)))
