"""Folding a stretch: every variant's values of its tokens, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch

from abbie_lens.collecting.choice import token_draws
from abbie_lens.corpus import Window, batches, padded
from abbie_lens.errors import InputError
from probes.aggregation.config import AggregateConfig
from probes.aggregation.part import Part
from probes.labels.label import UNDEFINED
from probes.labels.text import get_label
from probes.result import Result

Analyse = Callable[..., Result]
"""analyse(model, tokens, n_iters, attention_mask=...) -> a result with `per_token()`."""


class Fold:
    """Turns windows into a Part."""

    def __init__(
        self,
        variants: dict[str, Any],
        config: AggregateConfig,
        analyse: Analyse,
        window: int,
    ) -> None:
        self.variants, self.config, self.analyse = variants, config, analyse
        self.model = variants["trained"]
        self.budget = config.batch_size * window

    def __call__(self, windows: Sequence[Window]) -> tuple[Part, dict[str, int]]:
        """The part, and rows by metric: its columns are those, side by side."""
        first = np.cumsum([0, *map(len, windows)])
        values: np.ndarray | None = None
        rows: dict[str, int] = {}
        for numbers in batches(windows, self.budget):
            chosen = [windows[n] for n in numbers]
            to = np.concatenate([np.arange(first[n], first[n + 1]) for n in numbers])
            for v, (name, model) in enumerate(self.variants.items()):
                found, rows = self._values(name, model, chosen)
                if values is None:
                    values = np.full((first[-1], len(self.variants), found.shape[1]), np.nan)
                values[to, v] = found
        assert values is not None
        part = Part.of(
            values,
            classes_of(
                self.config.label, (self.model.to_str_tokens(w.ids.tolist()) for w in windows)
            ),
            np.repeat([w.document for w in windows], [len(w) for w in windows]),
            np.concatenate([token_draws(w, self.config.seed) for w in windows]),
            self.config.n_classes,
            self.config.sample,
        )
        return part, rows

    def _values(
        self, name: str, model: Any, windows: Sequence[Window]
    ) -> tuple[np.ndarray, dict[str, int]]:
        """[token, column] of the windows' tokens, one after the other."""
        tokens, mask, start = padded(windows, self.model.tokenizer)
        if name == "shuffled":
            for row, window in zip(tokens, windows, strict=True):
                generator = np.random.default_rng([self.config.seed, window.document, window.first])
                order = torch.from_numpy(generator.permutation(len(window)))
                row[start : start + len(window)] = torch.from_numpy(window.ids)[order]
        result = self.analyse(
            model,
            tokens.to(self.model.device),
            self.config.n_iters,
            attention_mask=None if mask is None else mask.to(self.model.device),
        )
        stacked, rows = joined(result)
        pieces = [stacked[:, row, start : start + len(w)] for row, w in enumerate(windows)]
        return np.concatenate(pieces, axis=1).T, rows


def joined(result: Result) -> tuple[np.ndarray, dict[str, int]]:
    """[column, batch, pos] all values by token, and rows by metric: the columns are those, side by side.

    Errors: InputError for a result without values by token.
    """
    per_token = getattr(result, "per_token", None)
    if per_token is None:
        raise InputError(f"analyse: a {type(result).__name__} has no values by token.")
    found = per_token()
    values = np.concatenate([np.asarray(x, np.float64) for x in found.values()])
    return values, {metric: len(x) for metric, x in found.items()}


def classes_of(label: str, windows: Iterable[Sequence[str]]) -> np.ndarray:
    """[token] class of each token of each window; the one after the last for tokens without a class."""
    chosen = get_label(label)
    classes = np.concatenate([chosen(window) for window in windows])
    return np.where(classes == UNDEFINED, len(chosen.classes), classes)
