"""Structural probes: does a linear map of the states make squared distances the paths of a tree?

    distance  min_B mean over sentences of (1/n²) Σ_ij |d_ij − ‖B(s_i − s_j)‖²|
    depth     min_B mean over sentences of (1/n)  Σ_i  |depth_i − ‖B s_i + c‖²|    B [rank, width]

s is the standardised state. The depth probe has an offset c that Hewitt & Manning's has not: the origin of their states is
that of the model, the origin of standardised ones is the mean word, and depths are measured from the root. Distances do
not change with the origin. Source: Hewitt & Manning 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.probing.scores import resampled
from probes.probing.sentences import Batches, Judge, Sentence
from probes.probing.split import Split, split
from probes.probing.standard import Scaler, moved, scaler
from probes.progress import Callback, Progress

RANK, STEPS, LEARNING_RATE = 32, 200, 0.02
_CHECK_EVERY = 20


@dataclass(frozen=True)
class StructuralFits:
    """Structural probes of every site and iteration on documents they have not seen.

    The last axis of a score is (score, low, high), a 95% bootstrap over test documents. NaN where features are not finite.
    """

    uuas: np.ndarray
    """[problem, 3] share of the tree's edges that the minimum spanning tree of the predicted distances has."""
    distance_rank: np.ndarray
    """[problem, 3] Spearman's ρ of predicted and true distances from each word, mean over words and sentences."""
    depth_rank: np.ndarray
    """[problem, 3] Spearman's ρ of ‖B s + c‖² and depth, mean over sentences."""
    chain: np.ndarray
    """[3] UUAS baseline: every word joined to the next."""
    chain_rank: np.ndarray
    """[3] Spearman baseline: distance in the sentence for distance in the tree."""
    chain_depth: np.ndarray
    """[3] Spearman baseline: place in the sentence for depth in the tree."""
    random_tree: np.ndarray
    """[3] UUAS that a tree drawn uniformly has on average: of n words it has each edge with probability 2/n."""
    distance_map: tuple[np.ndarray, ...]
    """[problem] of B [rank, width], of standardised states."""
    depth_map: tuple[np.ndarray, ...]
    """[problem] of B and, its last column, c: [rank, width + 1]."""
    scalers: tuple[Scaler, ...]
    split: Split
    """Of sentences."""


def fit_structural(
    features: Sequence[np.ndarray | Tensor],
    sentences: Sequence[Sentence],
    *,
    rank: int = RANK,
    steps: int = STEPS,
    seed: int = 0,
    parts: Split | None = None,
    device: str | torch.device = "cpu",
    progress: Callback | None = None,
) -> StructuralFits:
    """Fit a distance and a depth probe on each of `features`, the best step chosen on validation documents.

    features: one [token, width] array a site and iteration. sentences: which tokens are the words of each
    sentence, and its tree. progress: called as (done, total) features.
    Errors: InputError for features or sentences that do not fit, fewer than 3 documents; Cancelled.
    """
    if not len(features) or not len(sentences):
        raise InputError("features, sentences: expected at least one of each.")
    if rank < 1 or steps < 1:
        raise InputError(f"rank={rank}, steps={steps}: expected integers >= 1.")
    documents = np.array([s.document for s in sentences])
    last = max(int(s.rows.max()) for s in sentences)
    for i, x in enumerate(features):
        if x.ndim != 2 or len(x) <= last:
            raise InputError(
                f"features[{i}]: shape {tuple(x.shape)}; expected [token, width] with token {last}."
            )
    sides = parts or split(np.zeros((len(documents), 0)), documents, seed)
    told = Progress(len(features), progress)
    train, held = (
        Batches.of([sentences[i] for i in side.tolist()], device)
        for side in (sides.train, sides.validation)
    )
    tests = [Judge(sentences[i]) for i in sides.test.tolist()]
    scalers, maps, scores = [], [], []
    for x in features:
        values = moved(torch.as_tensor(x), device)
        scale = scaler(values[train.words])
        ready = scale.apply(values, torch.float32)
        ready = torch.cat([ready, torch.ones_like(ready[:, :1])], 1)
        if bool(torch.isfinite(ready).all()):
            pair = _fit(ready, train, held, rank, steps, seed)
            scores.append([judge.scores(ready, *pair) for judge in tests])
        else:
            pair = ready.new_full((2, min(rank, ready.shape[1]), ready.shape[1]), torch.nan)
            scores.append([(np.nan,) * 3] * len(tests))
        scalers.append(scale)
        maps.append([each.cpu().numpy() for each in pair])
        told.step()
    at = documents[sides.test]
    edges, every = np.array([judge.n - 1.0 for judge in tests]), np.ones(len(tests))

    def averaged(table: np.ndarray) -> list[np.ndarray]:
        """UUAS, distance and depth, each [problem, 3], of [problem, test sentence, 3]."""
        uuas, distance, depth = np.moveaxis(table, -1, 0)
        found = [
            resampled(uuas * edges, edges, at, seed),
            *(resampled(v, every, at, seed) for v in (distance, depth)),
        ]
        for values, scored in zip((uuas, distance, depth), found, strict=True):
            scored[~np.isfinite(values).any(1)] = np.nan
        return found

    uuas, distance, depth = averaged(np.array(scores))
    chain = averaged(np.array([[judge.chain() for judge in tests]]))
    chance = np.array([[2 / judge.n for judge in tests]])
    return StructuralFits(
        uuas=uuas,
        distance_rank=distance,
        depth_rank=depth,
        chain=chain[0][0],
        chain_rank=chain[1][0],
        chain_depth=chain[2][0],
        random_tree=resampled(chance * edges, edges, at, seed)[0],
        distance_map=tuple(pair[0][:, :-1] for pair in maps),
        depth_map=tuple(pair[1] for pair in maps),
        scalers=tuple(scalers),
        split=sides,
    )


def _fit(
    x: Tensor, train: Batches, held: Batches, rank: int, steps: int, seed: int
) -> tuple[Tensor, Tensor]:
    """Maps of distances and of depths [rank, width]; each as it was when its validation loss was least."""
    generator = torch.Generator().manual_seed(seed)
    width = x.shape[1]
    start = torch.randn(2, min(rank, width), width, generator=generator) / width
    weights = start.to(x.device).requires_grad_()
    optimizer = torch.optim.Adam([weights], lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    best = torch.full((2,), torch.inf, device=x.device)
    kept = weights.detach().clone()
    here, there = x[train.words], x[held.words]
    for step in range(steps):
        optimizer.zero_grad()
        train.losses(here, weights).sum().backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % _CHECK_EVERY == 0 or step + 1 == steps:
            with torch.no_grad():
                loss = held.losses(there, weights)
                better = loss < best
                best = torch.where(better, loss, best)
                kept = torch.where(better[:, None, None], weights.detach(), kept)
    return kept[0], kept[1]
