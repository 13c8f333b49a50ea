"""Windows: documents cut to what a model reads at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from abbie_lens.errors import InputError

from .encoding import encode

if TYPE_CHECKING:
    from abbie_lens.model import HookedLoopedTransformer

_USUAL = 512


@dataclass(frozen=True)
class Window:
    """Neighbouring tokens of one document."""

    document: int
    """Its number among the documents read, from 0; blank ones are passed over."""
    first: int
    """Number of the first token in its document, from 0."""
    ids: np.ndarray
    """[pos] token ids, without the one that begins a text."""
    spans: np.ndarray
    """[pos, 2] first character in the document and the one after the last."""

    def __len__(self) -> int:
        return len(self.ids)


def window_size(model: HookedLoopedTransformer, asked: int | None) -> int:
    """Tokens that the model is to read at once: as asked, or its context, at most 512.

    Errors: InputError for more than its context, or a model without a tokenizer.
    """
    if model.tokenizer is None:
        raise InputError("model: it has no tokenizer, and so reads no text.")
    if asked is not None and asked > model.cfg.n_ctx:
        raise InputError(f"window={asked}: the model's context holds {model.cfg.n_ctx}.")
    return min(asked or _USUAL, model.cfg.n_ctx)


def batches(windows: Sequence[Window], budget: int) -> Iterator[list[int]]:
    """Numbers of windows of like length together, each batch padded to at most `budget` tokens, or one window."""
    batch: list[int] = []
    for number in sorted(range(len(windows)), key=lambda n: -len(windows[n])):
        if batch and (len(batch) + 1) * (len(windows[batch[0]]) + 1) > budget:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch


def cut_windows(
    documents: Iterable[str], tokenizer: PreTrainedTokenizerFast, n_ctx: int
) -> Iterator[Window]:
    """The documents one after the other, in windows that do not overlap, each with room for a beginning token.

    Memory grows with the longest document's characters, not with the corpus.
    """
    size = n_ctx - (tokenizer.bos_token_id is not None)
    for number, document in enumerate(documents):
        first = 0
        ids, spans = np.empty(0, np.int64), np.empty((0, 2), np.int64)
        for more_ids, more_spans in encode(document, tokenizer):
            ids, spans = np.concatenate([ids, more_ids]), np.concatenate([spans, more_spans])
            whole = len(ids) // size * size
            for i in range(0, whole, size):
                yield Window(number, first + i, ids[i : i + size], spans[i : i + size])
            first, ids, spans = first + whole, ids[whole:], spans[whole:]
        if len(ids):
            yield Window(number, first, ids, spans)


def padded(
    windows: Sequence[Window], tokenizer: PreTrainedTokenizerFast
) -> tuple[Tensor, Tensor | None, int]:
    """Token ids [batch, pos] padded on the right, their mask (None without padding), and where window tokens begin.

    That is 1 where the tokenizer has a token to begin a text with, else 0.
    """
    bos: Any = tokenizer.bos_token_id
    start = int(bos is not None)
    width = max(map(len, windows)) + start
    pad: Any = tokenizer.pad_token_id or 0
    tokens = torch.full((len(windows), width), pad)
    mask = torch.zeros_like(tokens)
    for row, window in enumerate(windows):
        if bos is not None:
            tokens[row, 0] = bos
        tokens[row, start : start + len(window)] = torch.from_numpy(window.ids)
        mask[row, : start + len(window)] = 1
    return tokens, None if bool(mask.all()) else mask, start
