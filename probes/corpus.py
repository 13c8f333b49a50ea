"""Documents for probing: texts cut into windows that a model can read, and split by document.

A probe that saw other sentences of the same document at training time is tested on its memory of names
and topics; whole documents go to one side of the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from abbie_lens.corpus import encode
from abbie_lens.errors import InputError
from probes.labels.counted import Counted
from probes.labels.label import UNDEFINED, Labelling

LEAST_DOCUMENTS = 4
_CHARACTERS_PER_TOKEN = 12
"""More than any tokenizer of text needs: how much of a long text is tokenized for a budget of tokens."""


@dataclass(frozen=True)
class Window:
    """A piece of one document that fits the model's context."""

    document: int
    ids: list[int]
    """Token ids, a beginning-of-sequence token first where the tokenizer has one."""
    labels: np.ndarray
    """[pos] class numbers, -1 where undefined; of a label without classes numbers, NaN where undefined."""


def split_documents(texts: str | Sequence[str]) -> list[str]:
    """Documents of `texts`: the list itself, or one text cut at form feeds, else at blank lines.

    Errors: InputError for fewer than 4 documents that are not blank.
    """
    if isinstance(texts, str):
        pieces = texts.split("\f") if "\f" in texts else re.split(r"\n[ \t]*\n", texts)
    else:
        pieces = list(texts)
    documents = [piece for piece in pieces if piece.strip()]
    if len(documents) < LEAST_DOCUMENTS:
        raise InputError(
            f"texts: {len(documents)} document(s); a split by document needs at least"
            f" {LEAST_DOCUMENTS}. Pass a list of texts, or one text with form feeds or blank lines"
            " between its documents."
        )
    return documents


def documents_for(
    label: Labelling | Counted, texts: str | Sequence[str] | None = None
) -> list[str]:
    """The documents that a label is read in: its own, or those of `texts`, or of the bundled sample if None.

    Errors: InputError for texts other than the label's own; as `split_documents`.
    """
    own = getattr(label, "documents", None)
    if own is not None:
        if texts is not None and list(texts) != list(own):
            raise InputError(
                f"texts: label {label.name!r} has {len(own)} documents of its own, and these are others;"
                " leave texts out."
            )
        return split_documents(own)
    if texts is None:
        from abbie_lens import zoo

        texts = zoo.sample_text()
    return split_documents(texts)


def windows(
    model: Any, documents: Sequence[str], label: Labelling, max_tokens: int, seed: int
) -> list[Window]:
    """Labelled windows of at most the model's context, about `max_tokens` tokens in all.

    Every document gives its beginning; if there are too many, a seeded choice of them is used.
    """
    found, n_tokens = [], 0
    for number, ids, spans in _read(model, documents, max_tokens, seed):
        if n_tokens >= max_tokens and len({w.document for w in found}) >= LEAST_DOCUMENTS:
            break
        found += _cut(model, number, ids, spans, label)
        n_tokens += len(ids)
    return found


def settled(
    model: Any, documents: Sequence[str], label: Labelling | Counted, max_tokens: int, seed: int
) -> Labelling:
    """The label itself, or counted over the tokens that `windows` gives."""
    if not isinstance(label, Counted):
        return label
    read = _read(model, documents, max_tokens, seed)
    return label.count(model.to_str_tokens(torch.as_tensor(ids)) for _, ids, _ in read)


def beginnings(
    model: Any, documents: Sequence[str], max_tokens: int, seed: int
) -> list[tuple[int, str]]:
    """What `windows` reads, as text: number of a document, and its beginning."""
    found, n_tokens = [], 0
    for number, ids, spans in _read(model, documents, max_tokens, seed):
        if n_tokens >= max_tokens and len(found) >= LEAST_DOCUMENTS:
            break
        found.append((number, documents[number][: int(spans[-1, 1])]))
        n_tokens += len(ids)
    return found


def _read(
    model: Any, documents: Sequence[str], max_tokens: int, seed: int
) -> Iterator[tuple[int, list[int], np.ndarray]]:
    """Documents in a seeded order: number, token ids, their characters [pos, 2]."""
    if model.tokenizer is None:
        raise InputError("model: it has no tokenizer, and so reads no text.")
    share = max(256, max_tokens // len(documents))
    for number in np.random.default_rng(seed).permutation(len(documents)).tolist():
        text = str(documents[number])[: share * _CHARACTERS_PER_TOKEN]
        if not text.strip():
            continue
        pieces = [*encode(text, model.tokenizer)]
        ids = np.concatenate([ids for ids, _ in pieces])[:share].tolist()
        yield number, ids, np.concatenate([spans for _, spans in pieces])[:share]


def _cut(
    model: Any, document: int, ids: list[int], spans: np.ndarray, label: Labelling
) -> Iterator[Window]:
    # Labels are of the whole document: a quotation may begin in one window and end in the next.
    labels = np.asarray(label.of(document, model.to_str_tokens(torch.as_tensor(ids)), spans))
    if labels.ndim == 2:
        raise InputError(
            f"label={label.name!r} says {labels.shape[1]} things of a token; expected one. Probe them one by"
            " one, or all at once with probes.fit_many."
        )
    if labels.shape != (len(ids),):
        raise InputError(
            f"label={label.name!r}: {len(labels)} labels for the {len(ids)} tokens of document {document};"
            " expected one each."
        )
    bos = getattr(model.tokenizer, "bos_token_id", None)
    start = [] if bos is None else [bos]
    nothing = UNDEFINED if label.classes else np.nan
    size = model.cfg.n_ctx - len(start)
    for i in range(0, len(ids), size):
        piece = np.concatenate([np.full(len(start), nothing), labels[i : i + size]])
        yield Window(document, start + ids[i : i + size], piece.astype(labels.dtype))


def usable_classes(found: Sequence[Window], label: Labelling) -> list[int]:
    """Classes that occur in at least two documents, so that both sides of a split can have them.

    Errors: InputError if fewer than two remain.
    """
    documents = {
        c: {w.document for w in found if (w.labels == c).any()} for c in range(len(label.classes))
    }
    usable = [c for c, where in documents.items() if len(where) >= 2]
    if len(usable) < 2:
        counts = ", ".join(
            f"{label.classes[c]!r} in {len(where)}" for c, where in documents.items()
        )
        raise InputError(
            f"label={label.name!r}: a probe needs two classes that each occur in two documents or"
            f" more; documents by class: {counts}. Choose another label or more varied texts."
        )
    return usable
