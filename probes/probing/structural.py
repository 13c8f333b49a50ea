"""Structural probes: does a linear map of the states make squared distances the paths of a tree?

    distance  min_B mean over sentences of (1/n²) Σ_ij |d_ij − ‖B(s_i − s_j)‖²|
    depth     min_B mean over sentences of (1/n)  Σ_i  |depth_i − ‖B s_i + c‖²|    B [rank, width]

s is the standardised state; c says where a root is, which centred states have lost. Source: Hewitt & Manning 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from abbie_lens.errors import InputError
from probes.probing.scores import resampled
from probes.probing.sentences import Padded, Sentence, rank_correlation, tree_edges
from probes.probing.split import Split, split
from probes.probing.standard import Scaler, scaler
from probes.progress import Callback, Progress

RANK, STEPS, LEARNING_RATE = 32, 200, 0.02
_CHECK_EVERY = 20


@dataclass(frozen=True)
class StructuralFits:
    """Structural probes of every site and iteration on documents they have not seen.

    The last axis of a score is (score, low, high), a 95% bootstrap over test documents.
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
        if x.ndim != 2 or len(x) <= last or not bool(torch.isfinite(torch.as_tensor(x)).all()):
            raise InputError(
                f"features[{i}]: shape {tuple(x.shape)}; expected finite [token, width] with token {last}."
            )
    sides = parts or split(np.zeros((len(documents), 0)), documents, seed)
    told = Progress(len(features), progress)
    train, held = (
        Padded.of([sentences[i] for i in side.tolist()], device)
        for side in (sides.train, sides.validation)
    )
    tests = [sentences[i] for i in sides.test.tolist()]
    scalers, maps, scores = [], [], []
    words = np.unique(np.concatenate([sentences[i].rows for i in sides.train.tolist()]))
    for x in features:
        values = torch.as_tensor(np.asarray(x)).to(device)
        scale = scaler(values[torch.from_numpy(words)])
        ready = scale.apply(values, torch.float32)
        ready = torch.cat([ready, torch.ones_like(ready[:, :1])], 1)
        pair = _fit(ready, train, held, rank, steps, seed)
        scalers.append(scale)
        maps.append([each.cpu().numpy() for each in pair])
        scores.append([_scored(ready, s, *pair) for s in tests])
        told.step()
    table = np.array(scores).transpose(2, 0, 1)
    edges = np.array([len(s.rows) - 1.0 for s in tests])
    at, every = documents[sides.test], np.ones(len(tests))
    chain = np.array([_chain(s) for s in tests]).T[:, None]
    return StructuralFits(
        uuas=resampled(table[0] * edges, edges, at, seed),
        distance_rank=resampled(table[1], every, at, seed),
        depth_rank=resampled(table[2], every, at, seed),
        chain=resampled(chain[0] * edges, edges, at, seed)[0],
        chain_rank=resampled(chain[1], every, at, seed)[0],
        distance_map=tuple(pair[0][:, :-1] for pair in maps),
        depth_map=tuple(pair[1] for pair in maps),
        scalers=tuple(scalers),
        split=sides,
    )


def _fit(
    x: Tensor, train: Padded, held: Padded, rank: int, steps: int, seed: int
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
    here, there = x[train.rows], x[held.rows]
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


def _scored(x: Tensor, sentence: Sentence, distance: Tensor, depth: Tensor) -> tuple[float, ...]:
    """UUAS, Spearman of distances, Spearman of depths of one sentence."""
    states = x[torch.from_numpy(sentence.rows)]
    placed = states @ distance.T
    between = (placed[:, None] - placed[None]).square().sum(-1).cpu().double().numpy()
    deep = (states @ depth.T).square().sum(-1).cpu().double().numpy()
    found = tree_edges(between) & tree_edges(sentence.distance)
    return (
        len(found) / (len(states) - 1),
        rank_correlation(between, sentence.distance),
        rank_correlation(deep[None], sentence.depth[None]),
    )


def _chain(sentence: Sentence) -> tuple[float, float]:
    n = len(sentence.rows)
    apart = np.abs(np.subtract.outer(np.arange(n), np.arange(n))).astype(float)
    edges = {(i, i + 1) for i in range(n - 1)} & tree_edges(sentence.distance)
    return len(edges) / (n - 1), rank_correlation(apart, sentence.distance)
