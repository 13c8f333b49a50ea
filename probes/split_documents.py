"""What one document says of where to loop: sums over its tokens, so that nothing but sums is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from abbie_lens.bridged import Loop, LoopedBridge
from abbie_lens.bridged.windows import window_logits
from abbie_lens.errors import InputError
from abbie_lens.losses import next_token_nll
from probes.inputs import prepare
from probes.numerics import host

Document = list[Tensor]
"""Its pieces, token ids [1, pos] each, that fit the model's context."""


def documents(model: LoopedBridge, given: Any, attention_mask: Any = None) -> list[Document]:
    """Documents: a list of texts (one text is one document), or rows of token ids [batch, pos].

    A text longer than the context is cut into pieces. Errors: InputError for bad input, or if no token has a next one.
    """
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list | tuple) and given and isinstance(given[0], str):
        if attention_mask is not None:
            raise InputError(
                "attention_mask: given with text, which brings its own; pass token ids."
            )
        found = [[*_pieces(model, text)] for text in given]
    else:
        inputs = prepare(model, given, 1, attention_mask, least=1)
        valid = torch.as_tensor(inputs.valid, device=inputs.tokens.device)
        found = [[row[kept][None]] for row, kept in zip(inputs.tokens, valid, strict=True)]
    found = [[p for p in pieces if p.shape[1] > 1] for pieces in found]
    found = [pieces for pieces in found if pieces]
    if not found:
        raise InputError("text_or_tokens: no document has two tokens, so none has a next token.")
    return found


def _pieces(model: LoopedBridge, text: str) -> Iterator[Tensor]:
    ids = model.to_tokens(text, prepend_bos=False)[0].tolist()
    bos = getattr(model.tokenizer, "bos_token_id", None)
    start = [] if bos is None else [bos]
    size = model.cfg.n_ctx - len(start)
    for i in range(0, len(ids), size):
        yield torch.tensor([start + ids[i : i + size]], device=model.device)


@torch.no_grad()
def angle_sums(model: LoopedBridge, document: Document) -> np.ndarray:
    """[block + 1] sum over tokens of the angle between what a block reads and writes, in units of pi; last, the tokens."""
    names = [
        f"blocks.{b}.hook_{end}" for b in range(len(model.bridge.blocks)) for end in ("in", "out")
    ]
    out = np.zeros(len(names) // 2 + 1)
    for tokens in document:
        _, cache = model.run_with_cache(tokens, n_iters=1, names_filter=names)
        for b, (before, after) in enumerate(zip(names[::2], names[1::2], strict=True)):
            x, y = (host(cache[n].reshape(*tokens.shape, -1)) for n in (before, after))
            x, y = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (x, y))
            # of half the angle, sine and cosine: arccos loses what nearly parallel vectors differ in
            angle = 2 * np.arctan2(np.linalg.norm(x - y, axis=-1), np.linalg.norm(x + y, axis=-1))
            out[b] += angle.sum() / np.pi
        out[-1] += tokens.shape[1]
    return out


@torch.no_grad()
def nll_sum(model: LoopedBridge, document: Document, loop: Loop, n_iters: int) -> float:
    """Sum of next-token NLL in nats with that window looped."""
    total = 0.0
    for tokens in document:
        logits = window_logits(model, loop, tokens, None, n_iters)
        total += float(next_token_nll(logits, tokens, per_token=True).double().sum())
    return total


def targets(document: Document) -> int:
    """Tokens that have a next one."""
    return sum(tokens.shape[1] - 1 for tokens in document)


def ratio_intervals(
    sums: np.ndarray, counts: np.ndarray, n_draws: int, seed: int, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """Bootstrap interval of sum / count over documents: sums [document, …], counts [document] -> low, high […].

    All columns share the draws. NaN with fewer than two documents. Percentiles, as in `evaluation.intervals`.
    """
    if len(counts) < 2:
        return np.full(sums.shape[1:], np.nan), np.full(sums.shape[1:], np.nan)
    chosen = np.random.default_rng(seed).integers(len(counts), size=(n_draws, len(counts)))
    weights = np.stack([np.bincount(row, minlength=len(counts)) for row in chosen])
    draws = np.tensordot(weights, sums, 1) / (weights @ counts).reshape(-1, *[1] * (sums.ndim - 1))
    tail = (1 - confidence) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], axis=0)
    return low, high


def fits(n_blocks: int, starts: Sequence[int], lengths: Sequence[int]) -> list[tuple[int, int]]:
    """Indices (i, j) of the windows starts[i] : starts[i] + lengths[j] that lie in the stack. Errors: InputError."""
    for name, values, least in (("starts", starts, 0), ("lengths", lengths, 1)):
        if not len(values) or any(
            isinstance(v, bool) or not isinstance(v, int | np.integer) or v < least for v in values
        ):
            raise InputError(f"{name}={list(values)}: expected integers >= {least}.")
    found = [
        (i, j) for i, s in enumerate(starts) for j, n in enumerate(lengths) if s + n <= n_blocks
    ]
    if not found:
        raise InputError(f"starts, lengths: no window fits into {n_blocks} blocks.")
    return found
