"""Labels of a treebank: parts of speech, relations, how far the head is, how deep in the tree."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from abbie_lens.errors import InputError, nearest
from probes.labels.conllu import Sentence, Treebank
from probes.labels.spans import SpanLabel
from probes.labels.trees import depths

Value = str | float | None

NAMED: dict[str, tuple[str, Callable[[Sentence], list[Value]]]] = {
    "upos": ("universal part of speech", lambda s: [w.upos for w in s.words]),
    "xpos": ("part of speech of the treebank's own tags", lambda s: [w.xpos for w in s.words]),
    "deprel": (
        "relation to the head, without its subtype",
        lambda s: [w.deprel.partition(":")[0] for w in s.words],
    ),
    "head_side": (
        "whether the head is to the left or to the right",
        lambda s: [_side(d) for d in _distances(s)],
    ),
    "head_distance": ("words to the head, positive to the right", lambda s: [*_distances(s)]),
    "tree_depth": ("steps from the root of the tree", lambda s: [*depths(s).tolist()]),
}
"""Description and values by word of every label; text names a class, None, "_" and NaN are undefined."""

TREEBANK_LABELS = tuple(NAMED)


def treebank_label(treebank: Treebank, name: str, piece: str = "last") -> SpanLabel:
    """One label of a treebank's words; `head_distance` and `tree_depth` are numbers.

    piece: which token of several carries a word's label, "last", "first" or "all". Errors: InputError for an unknown
    name, heads that go round in a circle, a treebank that does not say it of any word.
    """
    if name not in NAMED:
        known = ", ".join(NAMED)
        raise InputError(f"label={name!r}: of a treebank, one of {known}.{nearest(name, NAMED)}")
    description, read = NAMED[name]
    spans: list[list[tuple[int, int]]] = [[] for _ in treebank.documents]
    values: list[list[Value]] = [[] for _ in treebank.documents]
    for sentence in treebank.sentences:
        spans[sentence.document] += [(w.start, w.end) for w in sentence.words]
        values[sentence.document] += [None if v in ("_", "") else v for v in read(sentence)]
    said = [v for document in values for v in document if v is not None and v == v]
    if not said:
        raise InputError(f"label={name!r}: the treebank says it of no word.")
    classes = tuple(sorted({v for v in said if isinstance(v, str)}))
    return SpanLabel(
        name,
        description,
        classes,
        treebank.documents,
        tuple(np.array(s, np.int64).reshape(-1, 2) for s in spans),
        tuple(numbered(document, classes) for document in values),
        piece,
    )


def numbered(values: list[Value], classes: tuple[str, ...]) -> np.ndarray:
    """Class numbers, or the numbers themselves where there are no classes; undefined where None."""
    if not classes:
        return np.array([np.nan if v is None else float(v) for v in values])
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number.get(str(v), -1) for v in values], dtype=np.int64)


def _distances(sentence: Sentence) -> list[float | None]:
    """Head's number minus the word's; None for the root."""
    return [
        float(word.head - i) if word.head else None
        for i, word in enumerate(sentence.words, start=1)
    ]


def _side(distance: float | None) -> str | None:
    if distance is None:
        return None
    return "left" if distance < 0 else "right"
