"""Means of values by token over classes of tokens, with bootstrap intervals over documents."""

from __future__ import annotations

import numpy as np

N_BOOTSTRAP, CONFIDENCE = 1000, 0.95
ALL = "all tokens"


def class_means(values: np.ndarray, classes: np.ndarray, n_classes: int, seed: int) -> np.ndarray:
    """[..., batch, pos] -> [..., 1 + class, 3]: over all tokens, then by class: mean and ends of its interval.

    `classes` [batch, pos]: class numbers, -1 for none, which counts among all tokens. A row of the batch is a document:
    the interval is NaN for fewer than two, and a mean is NaN where nothing is defined.
    """
    there: np.ndarray = np.isfinite(values)
    filled = np.where(there, values, 0.0)
    inside = np.ones((1 + n_classes, *classes.shape), bool)
    inside[1:] = classes == np.arange(n_classes)[:, None, None]
    # [..., class, document]
    sums = np.stack([(filled * of).sum(-1) for of in inside], axis=-2)
    counts = np.stack([(there & of).sum(-1) for of in inside], axis=-2)
    found = np.full((*sums.shape[:-1], 3), np.nan)
    found[..., 0] = _ratio(sums.sum(-1), counts.sum(-1))
    n = sums.shape[-1]
    if n < 2:
        return found
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), size=N_BOOTSTRAP)
    # Draws without a token of the class say nothing of it.
    drawn = _ratio(sums @ weights.T, counts @ weights.T)
    levels = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    lost = np.asarray(np.isnan(drawn).all(-1))
    ends = np.nanquantile(np.where(lost[..., None], 0.0, drawn), levels, axis=-1)
    found[..., 1:] = np.where(lost[..., None], np.nan, np.moveaxis(ends, 0, -1))
    return found


def _ratio(sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
