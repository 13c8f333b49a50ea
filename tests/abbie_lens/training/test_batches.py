"""Batches depend on (seed, step) alone, and an epoch shows every window once."""

import numpy as np
import pytest

from abbie_lens.errors import InputError
from abbie_lens.training.batches import Batches

TOKENS = np.arange(1, 500, dtype=np.uint16)


def make(**changes):
    return Batches(TOKENS, **(dict(separator=0, n_ctx=8, batch_size=4, seed=3) | changes))


def test_a_step_has_the_same_batch_in_any_order_of_asking():
    forward, backward = make(), make()
    ahead = {step: forward(step) for step in range(60)}
    for step in reversed(range(60)):
        assert (backward(step) == ahead[step]).all()
    assert not (make(seed=4)(0) == ahead[0]).all()


def test_windows_are_consecutive_text_after_the_separator():
    batch = make()(5)
    assert batch.shape == (4, 8) and batch.dtype == np.int64
    assert (batch[:, 0] == 0).all()
    assert (np.diff(batch[:, 1:], axis=1) == 1).all()


def test_an_epoch_covers_the_text_once_and_the_next_cuts_it_elsewhere():
    batches = make(batch_size=1)
    n = batches.n_windows
    epochs = [np.concatenate([batches(s)[0, 1:] for s in range(e * n, e * n + n)]) for e in (0, 1)]
    for seen in epochs:
        assert len(np.unique(seen)) == len(seen) == n * 7
        assert len(TOKENS) - len(seen) < 2 * 7
    assert epochs[0].min() != epochs[1].min()
    assert epochs[0].tolist() != sorted(epochs[0])


def test_batch_size_regroups_the_same_windows():
    large, small = make(batch_size=6), make(batch_size=3)
    assert (large(2) == np.concatenate([small(4), small(5)])).all()


def test_too_little_text():
    assert Batches(TOKENS[:13], separator=0, n_ctx=8, batch_size=1, seed=0)(3).max() <= 13
    with pytest.raises(InputError, match=r"12 tokens for training.*n_ctx=8 needs 13"):
        Batches(TOKENS[:12], separator=0, n_ctx=8, batch_size=1, seed=0)
