"""Labels of the tokens of a collection: of its index, not of the model that was run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from probes.labels.counted import Counted
from probes.labels.label import UNDEFINED, Labelling

if TYPE_CHECKING:
    import pandas as pd


def label_index(
    index: pd.DataFrame, label: Labelling | Counted, numbers: Sequence[int] | None = None
) -> tuple[Labelling, np.ndarray]:
    """The label, counted if it must be, and its values [token] over `Collection.index()`.

    numbers: [document] what each document of the collection is called where the label was made; None: the same.
    """
    if isinstance(label, Counted):
        label = label.count(group["text"].tolist() for _, group in _documents(index))
    out = np.full(len(index), UNDEFINED if label.classes else np.nan)
    for document, group in _documents(index):
        number = document if numbers is None else numbers[document]
        spans = group[["start", "end"]].to_numpy(np.int64)
        # The tokens of a document are together and in its order, also where a shard ends inside it.
        out[group.index.to_numpy()] = label.of(number, group["text"].tolist(), spans)
    return label, out.astype(np.int64) if label.classes else out


def _documents(index: pd.DataFrame) -> Iterator[tuple[int, pd.DataFrame]]:
    for document, group in index.groupby("document", sort=True):
        yield int(document), group  # type: ignore[arg-type]
