"""Held-out NLL per token at chosen depths, with block-bootstrap intervals.

Windows don't overlap, and each begins with the separator, as prompts do. Neighbouring windows are
alike, and so are those of one document: the bootstrap draws documents, then blocks of neighbouring
windows within each, and the interval holds for text like this, not for this text alone.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from abbie_lens.errors import DepthError, InputError

from .tokens import TokenFile

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

ARRAYS = ("nll", "low", "high")
BLOCK = 16
OnWindows = Callable[[int, int], object]
"""Called with (windows or answers done, all of them)."""


@dataclass(frozen=True)
class Evaluation:
    """Held-out loss of one model, in nats per token."""

    n_iters: tuple[int, ...]
    nll: tuple[float, ...]
    """[len(n_iters)] mean over all predicted tokens; NaN where the loop refuses the depth."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    """[len(n_iters)] bounds of the interval."""
    confidence: float
    n_tokens: int
    n_documents: int
    n_blocks: int

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; NaN becomes None."""
        plain = dataclasses.asdict(self)
        for name in ARRAYS:
            plain[name] = [None if math.isnan(value) else value for value in plain[name]]
        return plain

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Evaluation:
        """Inverse of `to_dict`, tuples from JSON's lists."""
        values = {name: tuple(math.nan if v is None else v for v in plain[name]) for name in ARRAYS}
        return cls(**{**plain, **values, "n_iters": tuple(plain["n_iters"])})


def windows(text: TokenFile, n_ctx: int) -> np.ndarray:
    """[n_windows, 3] (start, length, document) of the separator-less pieces to predict."""
    rows: list[np.ndarray] = []
    ends = np.append(text.documents[1:], len(text.tokens))
    for document, (start, end) in enumerate(zip(text.documents, ends, strict=True)):
        start += int(text.tokens[start] == text.separator)
        starts = np.arange(start, end, n_ctx - 1)
        lengths = np.minimum(starts + n_ctx - 1, end) - starts
        rows.append(np.stack([starts, lengths, np.full_like(starts, document)], axis=1))
    return np.concatenate(rows)


def evaluate(
    model: HookedLoopedTransformer,
    text: TokenFile,
    n_iters: Sequence[int] = (1, 2, 4, 8, 16),
    *,
    max_windows: int | None = None,
    batch_size: int = 32,
    n_bootstrap: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
    progress: OnWindows | None = None,
) -> Evaluation:
    """Mean next-token NLL of `text` at every depth of `n_iters`; NaN where the loop refuses it.

    `max_windows` takes evenly spaced windows of the text; `progress(done, total)` counts windows.
    Memory doesn't grow with the text, apart from two sums a window. InputError for too short a text.
    """
    total, count, document = block_sums(
        model, text, n_iters, max_windows=max_windows, batch_size=batch_size, progress=progress
    )
    draws = bootstrap_means(total, count, document, n_bootstrap, seed)
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return Evaluation(
        n_iters=tuple(n_iters),
        nll=tuple((total.sum(0) / count.sum()).tolist()),
        low=tuple(low.tolist()),
        high=tuple(high.tolist()),
        confidence=confidence,
        n_tokens=int(count.sum()),
        n_documents=len(np.unique(document)),
        n_blocks=len(count),
    )


def block_sums(
    model: HookedLoopedTransformer,
    text: TokenFile,
    n_iters: Sequence[int],
    *,
    max_windows: int | None = None,
    batch_size: int = 32,
    progress: OnWindows | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What `bootstrap_means` draws from: sums of NLL [block, depth], tokens [block], document [block].

    Two models of one tokenizer and context have the same blocks, so their difference can be drawn too.
    Arguments and errors as in `evaluate`.
    """
    pieces = windows(text, model.cfg.n_ctx)
    if len(pieces) == 0:
        raise InputError("heldout: there is no token to predict")
    if max_windows is not None and max_windows < len(pieces):
        pieces = pieces[np.linspace(0, len(pieces) - 1, max_windows).round().astype(int)]
    sums = np.zeros((len(pieces), len(n_iters)))
    was_training = model.training
    model.eval()
    try:
        for first in range(0, len(pieces), batch_size):
            rows = slice(first, first + batch_size)
            sums[rows] = _window_nll(model, text, pieces[rows], n_iters)
            if progress is not None:
                progress(min(first + batch_size, len(pieces)), len(pieces))
    finally:
        model.train(was_training)
    return _blocks(sums, pieces)


@torch.inference_mode()
def _window_nll(
    model: HookedLoopedTransformer, text: TokenFile, pieces: np.ndarray, n_iters: Sequence[int]
) -> np.ndarray:
    lengths = pieces[:, 1]
    # Causal: what stands to the right of a short window changes nothing to its left.
    batch = np.full((len(pieces), int(lengths.max()) + 1), text.separator, dtype=np.int64)
    for row, (start, length, _) in enumerate(pieces):
        batch[row, 1 : length + 1] = text.tokens[start : start + length]
    tokens = torch.from_numpy(batch).to(model.device)
    counted = torch.arange(batch.shape[1] - 1) < torch.from_numpy(lengths)[:, None]
    result = np.empty((len(pieces), len(n_iters)))
    for column, r in enumerate(n_iters):
        try:
            model.depth(r)
        except DepthError:
            result[:, column] = float("nan")
            continue
        nll = model(tokens, n_iters=r, return_type="loss", loss_per_token=True)
        result[:, column] = nll.double().cpu().where(counted, 0.0).sum(1).numpy()
    return result


def _blocks(sums: np.ndarray, pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums of NLL [block, depth] and tokens [block], and each block's document [block]."""
    document = pieces[:, 2]
    first_of_document = np.searchsorted(document, document)
    key = document * (len(pieces) + 1) + (np.arange(len(pieces)) - first_of_document) // BLOCK
    starts = np.flatnonzero(np.append(True, key[1:] != key[:-1]))
    return (
        np.add.reduceat(sums, starts, axis=0),
        np.add.reduceat(pieces[:, 1], starts),
        document[starts],
    )


def bootstrap_means(
    total: np.ndarray, count: np.ndarray, document: np.ndarray, n_bootstrap: int, seed: int
) -> np.ndarray:
    """[n_bootstrap, depth] means over documents drawn with replacement, then blocks within each.

    `total` [block, depth], `count` [block], `document` [block] sorted. With one document only its
    blocks are drawn.
    """
    generator = np.random.default_rng(seed)
    _, first, size = np.unique(document, return_index=True, return_counts=True)
    draws = np.empty((n_bootstrap, total.shape[1]))
    for draw in range(n_bootstrap):
        chosen = generator.integers(len(first), size=len(first))
        repeats = size[chosen]
        inside = generator.integers(np.repeat(repeats, repeats))
        blocks = np.repeat(first[chosen], repeats) + inside
        draws[draw] = total[blocks].sum(0) / count[blocks].sum()
    return draws


def _or_none(x: float) -> float | None:
    return None if np.isnan(x) else x
