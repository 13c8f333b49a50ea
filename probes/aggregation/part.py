"""What is kept of a stretch of text: sums, sums by document, and a sample of tokens, all of which can be added up.

Columns are the rows of all metrics side by side. Of every class of tokens the sample holds those with the smallest
draws: a uniform sample whatever the order, the processes or the kills were, and the same in every variant.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from abbie_lens.errors import CheckpointError, InputError

_LAST = np.iinfo(np.uint64).max


@dataclass(frozen=True, eq=False)
class Part:
    """Folded values of one stretch, or of many."""

    sums: np.ndarray
    """[variant, class, column] of defined values."""
    counts: np.ndarray
    """[variant, class, column] how many they are."""
    draws: np.ndarray
    """[class, sample] ascending; the largest number where the sample is not full."""
    sample: np.ndarray
    """[class, sample, variant, column] float32 values of the sampled tokens."""
    documents: np.ndarray
    """[document] their numbers, ascending."""
    document_sums: np.ndarray
    """[document, variant, column]."""
    document_counts: np.ndarray
    """[document, variant, column]."""

    @classmethod
    def of(
        cls, values: np.ndarray, classes: np.ndarray, documents: np.ndarray, draws: np.ndarray,
        n_classes: int, n_sample: int,
    ) -> Part:  # fmt: skip
        """From values [token, variant, column], NaN where undefined, and a token's class, document and draw."""
        there = np.isfinite(values)
        filled = np.where(there, values, 0.0)
        sums, counts = (
            np.stack([x[classes == c].sum(0) for c in range(n_classes)], axis=1)
            for x in (filled, there)
        )
        chosen_draws = np.full((n_classes, n_sample), _LAST, np.uint64)
        sample = np.full((n_classes, n_sample, *values.shape[1:]), np.nan, np.float32)
        for c in range(n_classes):
            members = np.flatnonzero(classes == c)
            first = members[np.argsort(draws[members], kind="stable")[:n_sample]]
            chosen_draws[c, : len(first)], sample[c, : len(first)] = draws[first], values[first]
        numbers, owner = np.unique(documents, return_inverse=True)
        by_document = np.zeros((2, len(numbers), *values.shape[1:]))
        np.add.at(by_document[0], owner, filled)
        np.add.at(by_document[1], owner, there)
        return cls(sums, counts, chosen_draws, sample, numbers, *by_document)

    def __add__(self, other: Part) -> Part:
        """Both together."""
        draws = np.concatenate([self.draws, other.draws], axis=1)
        sample = np.concatenate([self.sample, other.sample], axis=1)
        order = np.argsort(draws, axis=1, kind="stable")[:, : self.draws.shape[1]]
        rows = np.arange(len(draws))[:, None]
        numbers = np.union1d(self.documents, other.documents)
        by_document = np.zeros((2, len(numbers), *self.document_sums.shape[1:]))
        for part in (self, other):
            at = np.searchsorted(numbers, part.documents)
            by_document[0, at] += part.document_sums
            by_document[1, at] += part.document_counts
        return Part(
            self.sums + other.sums, self.counts + other.counts,
            draws[rows, order], sample[rows, order], numbers, *by_document,
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Whole or not at all."""
        partial = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with open(partial, "wb") as file:
                np.savez(file, **vars(self))
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path) -> Part:
        """Inverse of `save`. Errors: CheckpointError for a damaged file."""
        try:
            with np.load(path, allow_pickle=False) as stored:
                return cls(**{name: stored[name] for name in cls.__dataclass_fields__})
        except (OSError, ValueError, KeyError, EOFError) as error:
            raise CheckpointError(f"{path}: can't be read ({error}).") from error


def merged(parts: Iterable[Part]) -> Part:
    """All together, one after the other. Errors: InputError for none."""
    remaining = iter(parts)
    total = next(remaining, None)
    if total is None:
        raise InputError("nothing was folded.")
    for one in remaining:
        total = total + one
    return total


def path(folder: Path, number: int) -> Path:
    """File of a stretch."""
    return folder / f"part-{number:06d}.npz"


def done(folder: Path) -> list[int]:
    """Numbers of the stretches that are folded, ascending."""
    stems = (p.stem.removeprefix("part-") for p in folder.glob("part-*.npz"))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def sweep(folder: Path) -> None:
    """Drop what a killed run left half-written."""
    for stale in folder.glob(".part-*"):
        stale.unlink(missing_ok=True)
