"""Probes of all sites and iterations against a loop of scikit-learn's estimators, on the same tokens and labels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from benchmarks.shapes import CPU, Shape
from benchmarks.timing import Pairs, paired
from probes.probing.engine import fit_many
from probes.probing.split import Split

N_SITES, N_CLASSES, PENALTY = 4, 17, 1.0
AGREEMENT = 0.002
"""Of accuracies, and of R²."""
PATH = (1.0, 10.0, 100.0, 1000.0)
_TEST = 10_000

FULL = replace(CPU, n_iters=16, batch=80)
"""80 x 250 tokens of width 256 are fitted on."""
FULL_GPU = replace(FULL, device="cuda")


@dataclass(frozen=True)
class _Data:
    features: list[np.ndarray]
    """One [token, width] a site and iteration, float32."""
    classes: np.ndarray
    numbers: np.ndarray
    documents: np.ndarray
    parts: Split


def _data(shape: Shape) -> _Data:
    """States that drift from iteration to iteration, with a spectrum that falls as those of models do."""
    generator = torch.Generator().manual_seed(0)
    width, train = shape.d_model, shape.batch * 250
    n = train + _TEST
    spectrum = torch.arange(1, width + 1) ** -0.7
    turns = [
        torch.linalg.qr(torch.randn(width, width, generator=generator))[0] * spectrum[:, None]
        for _ in range(N_SITES)
    ]
    hidden = torch.randn(n, width, generator=generator)
    reader = torch.randn(width, N_CLASSES, generator=generator)
    scores = (hidden * spectrum.sqrt()) @ reader / 2
    noise = torch.rand(scores.shape, generator=generator).log().neg().log().neg()
    features = []
    for _ in range(shape.n_iters):
        hidden = 0.95 * hidden + 0.3 * torch.randn(n, width, generator=generator)
        features += [(hidden @ turn).numpy() for turn in turns]
    documents = np.arange(n) // 250
    parts = Split(np.arange(train), np.arange(0), np.arange(train, n))
    return _Data(
        features, (scores + noise).argmax(1).numpy(), scores[:, 0].numpy(), documents, parts
    )


def logistic(shape: Shape, pairs: int) -> Pairs:
    """One fit of all multinomial probes, features standardised / a loop of scikit-learn's StandardScaler and LogisticRegression, at accuracies within 0.2 points. Of the shape: iterations, width and the batch of 250 tokens each, 4 sites, 17 classes."""
    from sklearn.linear_model import LogisticRegression

    data = _data(shape)
    return _compared(
        data,
        data.classes,
        lambda: LogisticRegression(C=1 / PENALTY, max_iter=400),
        pairs,
        shape.device,
        (PENALTY,),
    )


def ridge(shape: Shape, pairs: int) -> Pairs:
    """One fit of all ridge probes over a path of 4 penalties, features standardised, float32 / a loop of scikit-learn's StandardScaler and Ridge over the same, at R² within 0.002; every penalty is a fit of its own there, one Gram matrix serves all here. Of the shape: iterations, width and the batch of 250 tokens each, 4 sites."""
    from sklearn.linear_model import Ridge

    data = _data(shape)
    return _compared(data, data.numbers, Ridge, pairs, shape.device, PATH)


def ridge_alone(shape: Shape, pairs: int) -> Pairs:
    """The same with one penalty, so that both sides standardise every set of features and form its Gram matrix once."""
    from sklearn.linear_model import Ridge

    data = _data(shape)
    return _compared(
        data, data.numbers, lambda: Ridge(alpha=PENALTY), pairs, shape.device, (PENALTY,)
    )


def _compared(
    data: _Data,
    labels: np.ndarray,
    estimator: Callable[..., Any],
    pairs: int,
    device: str,
    penalties: tuple[float, ...],
) -> Pairs:
    from sklearn.preprocessing import StandardScaler

    train, test = data.parts.train, data.parts.test
    path = len(penalties) > 1
    # on a path the test part of ours is the validation part: nothing else of the work changes
    parts = Split(train, test, test) if path else data.parts

    def ours() -> np.ndarray:
        found = fit_many(
            data.features,
            labels,
            data.documents,
            parts=parts,
            penalties=penalties,
            shuffled=False,
            device=device,
        )
        return found.score[:, 0]

    def theirs() -> np.ndarray:
        scores = []
        for x in data.features:
            scaler = StandardScaler().fit(x[train])
            seen, held = scaler.transform(x[train]), scaler.transform(x[test])
            tried = [estimator(alpha=p) for p in penalties] if path else [estimator()]
            said = [each.fit(seen, labels[train]).predict(held) for each in tried]
            scores.append(max(_score(each, labels, train, test) for each in said))
        return np.array(scores)

    scores: dict[str, np.ndarray] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        timed = paired(
            lambda: scores.update(ours=ours()),
            lambda: scores.update(theirs=theirs()),
            pairs,
            warmup=0,
            device=device,
        )
    off = np.abs(scores["ours"] - scores["theirs"]).max()
    if off > AGREEMENT:
        raise AssertionError(f"scores: {off:.4f} apart; expected at most {AGREEMENT}.")
    return timed


def _score(said: np.ndarray, labels: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Accuracy, or R² against the mean of the training tokens."""
    if labels.dtype.kind != "f":
        return float((said == labels[test]).mean())
    off, spread = labels[test] - said, labels[test] - labels[train].mean()
    return float(1 - off @ off / (spread @ spread))
