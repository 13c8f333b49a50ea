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

from abbie_lens.errors import InputError
from probes.text_labels import UNDEFINED, Label

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
    """[pos] class numbers; -1 where undefined."""


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


def windows(
    model: Any, documents: Sequence[str], label: Label, max_tokens: int, seed: int
) -> list[Window]:
    """Labelled windows of at most the model's context, about `max_tokens` tokens in all.

    Every document gives its beginning; if there are too many, a seeded choice of them is used.
    """
    share = max(256, max_tokens // len(documents))
    order = np.random.default_rng(seed).permutation(len(documents))
    found, n_tokens = [], 0
    for number in order.tolist():
        if n_tokens >= max_tokens and len({w.document for w in found}) >= LEAST_DOCUMENTS:
            break
        text = documents[int(number)][: share * _CHARACTERS_PER_TOKEN]
        if not text.strip():
            continue
        ids = model.to_tokens(text, prepend_bos=False)[0].tolist()[:share]
        found += _cut(model, number, ids, label)
        n_tokens += len(ids)
    return found


def _cut(model: Any, document: int, ids: list[int], label: Label) -> Iterator[Window]:
    # Labels are of the whole document: a quotation may begin in one window and end in the next.
    labels = label(model.to_str_tokens(torch.as_tensor(ids)))
    bos = getattr(model.tokenizer, "bos_token_id", None)
    start = [] if bos is None else [bos]
    size = model.cfg.n_ctx - len(start)
    for i in range(0, len(ids), size):
        piece = np.concatenate([[UNDEFINED] * len(start), labels[i : i + size]])
        yield Window(document, start + ids[i : i + size], piece.astype(np.int64))


def usable_classes(found: Sequence[Window], label: Label) -> list[int]:
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
