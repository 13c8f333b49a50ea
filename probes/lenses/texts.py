"""Text for fitting lenses: documents of any source, split into those to fit on and those to test on, in windows."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abbie_lens.corpus import Window, cut_windows, padded, read_documents, window_size
from abbie_lens.errors import InputError
from probes.inputs import Inputs

Data = str | Sequence[str]
"""A source as `read_documents` takes it, or the documents themselves."""
_EVERY, _BUFFER, _LEAST_DOCUMENTS = 5, 256, 4
"""One document in so many is held out; windows among which the next batch is drawn; documents that share the test."""


def documents(data: Data) -> Iterable[str]:
    """The documents that are not blank. Errors: InputError."""
    if isinstance(data, str):
        return read_documents(data)
    return (text for text in data if text.strip())


def named(data: Data) -> str:
    """What a source is called: its name without the folders it is in."""
    return Path(data).name if isinstance(data, str) else "given documents"


def windows_of(model: Any, data: Data, window: int | None, at_most: int) -> list[Window]:
    """Windows of every document's beginning, about `at_most` tokens in all, shared out equally."""
    texts = list(documents(data))
    size = window_size(model, window)
    found: list[Window] = []
    for number, text in enumerate(texts):
        n_tokens = 0
        for piece in cut_windows([text], model.tokenizer, size):
            if n_tokens >= at_most / len(texts):
                break
            n_tokens += len(piece)
            found.append(replace(piece, document=number))
    if not found:
        raise InputError("data: it holds no text.")
    return found


class Texts:
    """Windows of `data` for a model, whole documents held out.

    Errors: InputError for fewer than two documents.
    """

    def __init__(self, model: Any, data: Data, window: int | None, seed: int) -> None:
        self.model, self.data, self.seed = model, data, seed
        self.size = window_size(model, window)
        first = len(list(itertools.islice(documents(data), _EVERY)))
        if first < 2:
            raise InputError(
                f"data: {first} document(s); at least two are needed, for whole documents are held out. In a text file"
                " a form feed separates documents."
            )
        self.every = first

    def held_out(self, at_most: int) -> list[Window]:
        """Windows of held-out documents, at most a quarter of `at_most` tokens of each, until there are so many."""
        found: list[Window] = []
        total, of = 0, dict[int, int]()
        for window in self._windows(held_out=True):
            if of.get(window.document, 0) >= at_most / _LEAST_DOCUMENTS:
                continue
            found.append(window)
            total += len(window)
            of[window.document] = of.get(window.document, 0) + len(window)
            if total >= at_most:
                break
        return found

    def batches(self, size: int, skip: int = 0) -> Iterator[list[Window]]:
        """Endless batches of `size` windows, drawn by the seed; the text begins again where it ends.

        `skip` passes over the first so many batches: those of a run that goes on.
        """
        drawn = self._drawn()
        while True:
            batch = list(itertools.islice(drawn, size))
            if skip:
                skip -= 1
                continue
            yield batch

    def _drawn(self) -> Iterator[Window]:
        for epoch in itertools.count():
            rng = np.random.default_rng([self.seed, epoch])
            waiting: list[Window] = []
            for window in self._windows(held_out=False):
                waiting.append(window)
                if len(waiting) > _BUFFER:
                    yield waiting.pop(int(rng.integers(len(waiting))))
            yield from (waiting[i] for i in rng.permutation(len(waiting)))

    def _windows(self, held_out: bool) -> Iterator[Window]:
        chosen = (
            text
            for number, text in enumerate(documents(self.data))
            if (number % self.every == self.every - 1) == held_out
        )
        return cut_windows(chosen, self.model.tokenizer, self.size)


def inputs_of(model: Any, windows: Sequence[Window], n_iters: int) -> Inputs:
    """A batch of windows, without labels."""
    tokens, mask, _ = padded(windows, model.tokenizer)
    tokens = tokens.to(model.device)
    mask = None if mask is None else mask.to(model.device)
    valid = torch.ones_like(tokens, dtype=torch.bool) if mask is None else mask.bool()
    return Inputs(tokens, mask, valid.cpu().numpy(), (), n_iters)
